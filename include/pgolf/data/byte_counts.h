// Bytes of text per token, to convert a loss per token into bits per byte.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pgolf/config/byte_counting.h"
#include "pgolf/data/tokenizer.h"

namespace pgolf {

/// What a target counts. Counts of disjoint targets of one stream add up.
///
/// ByteCounting::rule, that of upstream's build_sentencepiece_luts and eval_val: a piece counts its UTF-8 bytes without a leading
/// kBlank, a byte piece counts 1, and control, unknown and unused pieces count 0. The leading space counts 1 more, unless the
/// token before it is a boundary (control, unknown or unused). What that gets wrong for some tokenizers: data/byte_check.h.
///
/// ByteCounting::decoded: the bytes by which the target makes the decoded text longer. A piece counts its UTF-8 bytes, each
/// kBlank in it as one; a byte piece counts 1; control, unknown and unused pieces count 0. Two things are seen in the stream:
///  - the three byte pieces of U+2581 one after the other are a space without a piece of its own: the first counts 1, the others
///  0;
///  - the dummy blank, if the tokenizer adds one, is not text: a target after a control piece (where a document begins) counts 1
///    less if it begins with a space or, with DummyBlank::last, whatever it is, in place of the document's last one.
/// So the targets after BOS up to the document's end count the bytes of its text, as far as the tokenizer leaves the text as it
/// is (normalization, unknown characters, a U+2581 in the text).
///
/// Ids beyond the tokenizer's are control pieces.
class ByteCounts {
 public:
  /// Tables have max(tokenizer.vocab_size(), vocab_size) entries. Error(bad_input) for a piece of more than 32,767 bytes.
  ByteCounts(const Tokenizer& tokenizer, int vocab_size, ByteCounting counting = ByteCounting::rule);

  const std::vector<int16_t>& base_bytes() const { return base_bytes_; }
  const std::vector<uint8_t>& has_leading_space() const { return has_leading_space_; }  ///< 0 or 1
  const std::vector<uint8_t>& is_boundary() const { return is_boundary_; }              ///< 0 or 1

  /// Bytes of the targets first .. first + targets - 1 of a stream, where target i is the token at i + 1.
  /// Error(bad_input) if an id is outside the tables.
  int64_t count(std::span<const uint16_t> stream, int64_t first, int64_t targets) const;
  /// Of all targets of a stream that is not empty: all tokens but the first.
  int64_t count(std::span<const uint16_t> stream) const { return count(stream, 0, static_cast<int64_t>(stream.size()) - 1); }
  /// Of the target at a place of the stream, which is not its first. Ids must be in the tables.
  int target_bytes(std::span<const uint16_t> stream, size_t at) const {
    return counting_ == ByteCounting::rule ? rule_bytes(stream, at) : decoded_bytes(stream, at);
  }
  /// Error(bad_input) if no target of the stream counts a byte, so that bits per byte would be infinite.
  void require_text(std::span<const uint16_t> stream) const;

 private:
  void require_ids(std::span<const uint16_t> stream) const;
  int rule_bytes(std::span<const uint16_t> stream, size_t at) const {
    const size_t target = stream[at];
    return base_bytes_[target] + (has_leading_space_[target] & (is_boundary_[stream[at - 1]] ^ 1));
  }
  int decoded_bytes(std::span<const uint16_t> stream, size_t at) const;

  ByteCounting counting_;
  std::vector<int16_t> base_bytes_;
  std::vector<uint8_t> has_leading_space_;
  std::vector<uint8_t> is_boundary_;
  // ByteCounting::decoded
  std::vector<int16_t> decoded_bytes_;
  std::vector<uint8_t> is_control_;
  std::optional<std::array<uint16_t, 3>> spelled_blank_;  ///< the byte pieces of kBlank
  DummyBlank dummy_blank_ = DummyBlank::none;
};

}  // namespace pgolf
