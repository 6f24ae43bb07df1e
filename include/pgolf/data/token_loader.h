// Training tokens: which part of the stream each rank gets in each micro-step.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pgolf/data/token_stream.h"

namespace pgolf {

/// Consumes exactly what upstream's DistributedTokenLoader does: every rank reads the same stream,
/// each call takes (local_tokens + 1) * world_size tokens, and rank r keeps the r-th span of them.
class TokenLoader {
 public:
  /// Needs 0 <= rank < world_size. pattern and vocab_size as in TokenStream.
  TokenLoader(const std::string& pattern, int rank, int world_size, int vocab_size = kMaxVocabSize);

  /// The next micro-step's tokens for this rank: local_tokens + 1 of them, where
  /// local_tokens = global_tokens / (world_size * grad_accum_steps), rounded down. Inputs are all but the last,
  /// targets all but the first. Valid until the next call. Error(usage) if local_tokens would be 0.
  std::span<const int64_t> next(int64_t global_tokens, int grad_accum_steps);

  TokenCursor cursor() const { return stream_.cursor(); }
  void seek(TokenCursor cursor) { stream_.seek(cursor); }
  const TokenStream& stream() const { return stream_; }

 private:
  TokenStream stream_;
  int rank_;
  int world_size_;
  std::vector<uint16_t> chunk_;  // of all ranks
  std::vector<int64_t> local_;
};

}  // namespace pgolf
