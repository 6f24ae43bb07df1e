// Whether the counting rule of bytes (data/byte_counts.h) fits a tokenizer. Who is misled by it reports wrong bits per byte.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "pgolf/data/byte_counts.h"

namespace pgolf {

/// What the targets of streams count.
struct TargetBytes {
  int64_t targets = 0, unknown = 0;  ///< unknown: of them, unknown pieces
  int64_t rule = 0, decoded = 0;     ///< bytes
  /// By how many bytes the rule differs from decoded, target by target: what it counts too much does not make up for what it
  /// counts too little.
  int64_t rule_error = 0;

  int64_t counted(ByteCounting counting) const { return counting == ByteCounting::rule ? rule : decoded; }
  int64_t error(ByteCounting counting) const { return counting == ByteCounting::rule ? rule_error : 0; }
  TargetBytes& operator+=(const TargetBytes& other);
  TargetBytes& operator-=(const TargetBytes& other);
};

class ByteCheck {
 public:
  /// The tokenizer must outlive the check.
  explicit ByteCheck(const Tokenizer& tokenizer);

  /// Of all targets of a stream; a token beyond the tokenizer's vocabulary is an Error(bad_input).
  TargetBytes count(std::span<const uint16_t> stream) const;
  /// By how much the count of two streams, one after the other, exceeds the sum of their counts: the second one's first token is
  /// a target then.
  TargetBytes count_seam(std::span<const uint16_t> before, std::span<const uint16_t> after) const;

  /// Why the rule counts other bytes than the text of this tokenizer's tokens has; empty if it does not: no piece is a lone
  /// space, pieces with spaces other than at their beginning, a document's first space as text, spaces after unknown characters.
  const std::string& rule_faults() const { return rule_faults_; }
  /// Whether characters that have no piece are spelled in bytes. Otherwise they are unknown and count 0, in either way of
  /// counting.
  bool byte_fallback() const { return byte_fallback_; }

  /// For who has tokens but not their text: what may be wrong with bytes counted that way, and what the given tokens show of it.
  /// One line; empty if all is well. Nothing is known here of the bytes of documents whose case was coded by CaseOps' operators.
  std::string warning(const TargetBytes& bytes, ByteCounting counting) const;

 private:
  const Tokenizer& tokenizer_;
  ByteCounts rule_, decoded_;
  std::string rule_faults_;
  bool byte_fallback_, case_operators_;
};

/// "none of the 5 tokens is 1, the BOS of x.model: ..."; for tokens without the BOS with which every document begins. bos_id
/// -1: the owner has none.
std::string missing_bos_warning(const std::string& tokens, int bos_id, const std::string& owner);

/// Logs the warning for all targets of a stream, if there is one, and that for streams without BOS. Counts only if the pieces are
/// suspicious.
void warn_of_byte_counts(const Tokenizer& tokenizer, ByteCounting counting, std::span<const uint16_t> stream);

}  // namespace pgolf
