// The validation tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pgolf/data/shard.h"

namespace pgolf {

/// All shards that match pattern, joined in lexical order and cut to whole sequences, like upstream's
/// load_validation_tokens. A single shard stays mapped; several are copied into memory.
class ValidationSet {
 public:
  /// eval_tokens limits the targets that are scored, rounded down to whole sequences; 0 = all.
  /// Error(bad_input): no shard, a damaged one, an id >= vocab_size among the tokens used, or fewer tokens than one
  /// sequence and its last target. Error(usage): 0 < eval_tokens < seq_len.
  ValidationSet(const std::string& pattern, int seq_len, int64_t eval_tokens = 0, int vocab_size = kMaxVocabSize);

  /// Every token, for callers that choose their own windows. eval_tokens, vocab_size and errors as above.
  static ValidationSet whole(const std::string& pattern, int64_t eval_tokens = 0, int vocab_size = kMaxVocabSize) {
    return {pattern, /*seq_len=*/1, eval_tokens, vocab_size};
  }

  /// sequences() * seq_len + 1 tokens: inputs are all but the last, targets all but the first.
  std::span<const uint16_t> tokens() const {
    return (mapped_ ? mapped_->tokens() : std::span<const uint16_t>(joined_)).first(used_);
  }
  int64_t sequences() const { return sequences_; }
  int64_t targets() const { return static_cast<int64_t>(used_) - 1; }

 private:
  std::optional<Shard> mapped_;
  std::vector<uint16_t> joined_;
  int64_t sequences_ = 0;
  size_t used_ = 0;
};

}  // namespace pgolf
