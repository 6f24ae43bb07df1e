// Streaming detokenization.
#pragma once

#include <string>
#include <vector>

#include "pgolf/data/tokenizer.h"

namespace pgolf {

/// The results of push() and finish() concatenate to Tokenizer::decode() of all ids, and each is valid UTF-8: a character made of
/// several byte pieces is held back until it is complete. The tokenizer must outlive the stream.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// The text that id completes; empty while a character is incomplete, and for control ids.
  std::string push(int id);
  /// What is still held back: U+FFFD for every byte of an incomplete character.
  std::string finish();

 private:
  std::string take();
  bool ends_within_a_character() const;

  const Tokenizer& tokenizer_;
  // A piece decodes differently at the start of the text, so the last piece with text is decoded again as context.
  std::vector<int> tail_;
  size_t taken_ = 0;  ///< bytes of decode(tail_) that were returned before
};

}  // namespace pgolf
