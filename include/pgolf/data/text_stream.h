// Tokens -> text, while they come.
#pragma once

#include <string>
#include <vector>

#include "pgolf/data/tokenizer.h"

namespace pgolf {

/// What push() and finish() return adds up to Tokenizer::decode() of all ids, and every part is whole UTF-8: a character that
/// comes as several byte pieces is held back until it is complete. The tokenizer must outlive the stream.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// The text that id completes; empty while a character is incomplete, and for control ids.
  std::string push(int id);
  /// What is still held back: U+FFFD for every byte of a character that never became whole.
  std::string finish();

 private:
  std::string take();
  bool ends_within_a_character() const;

  const Tokenizer& tokenizer_;
  // What a piece decodes to depends on whether text stands before it, so the last piece that had any is decoded again.
  std::vector<int> tail_;
  size_t taken_ = 0;  ///< bytes of decode(tail_) that were returned before
};

}  // namespace pgolf
