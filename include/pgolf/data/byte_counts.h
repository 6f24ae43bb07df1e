// Bytes of text per token, to convert a loss per token into bits per byte.
// Same rule as upstream's build_sentencepiece_luts and eval_val.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pgolf/data/tokenizer.h"

namespace pgolf {

/// A piece counts its UTF-8 bytes without a leading U+2581 ("▁", the space), a byte piece counts 1, and
/// control, unknown and unused pieces count 0. The leading space counts 1 more, unless the token before it is a
/// boundary (control, unknown or unused).
class ByteCounts {
 public:
  /// Tables have max(tokenizer.vocab_size(), vocab_size) entries; ids beyond the tokenizer's are boundaries of 0 bytes.
  ByteCounts(const Tokenizer& tokenizer, int vocab_size);

  const std::vector<int16_t>& base_bytes() const { return base_bytes_; }
  const std::vector<uint8_t>& has_leading_space() const { return has_leading_space_; }  ///< 0 or 1
  const std::vector<uint8_t>& is_boundary() const { return is_boundary_; }              ///< 0 or 1

  /// Bytes of the targets' text; prev[i] is the token before target[i]. T is an integer type of token ids.
  /// Error(bad_input) if an id is outside the tables.
  template <class T>
  int64_t count(std::span<const T> prev, std::span<const T> target) const;

 private:
  std::vector<int16_t> base_bytes_;
  std::vector<uint8_t> has_leading_space_;
  std::vector<uint8_t> is_boundary_;
};

extern template int64_t ByteCounts::count(std::span<const uint16_t>, std::span<const uint16_t>) const;
extern template int64_t ByteCounts::count(std::span<const int64_t>, std::span<const int64_t>) const;

}  // namespace pgolf
