// Training tokens: which part of the stream each rank gets in each micro-step.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pgolf/data/batch_loader.h"

namespace pgolf {

/// Consumes exactly what upstream's DistributedTokenLoader does: every rank reads the same stream,
/// each call takes (local_tokens + 1) * world_size tokens, and rank r keeps the r-th span of them.
class TokenLoader : public BatchLoader {
 public:
  /// Needs 0 <= rank < world_size. pattern and vocab_size as in TokenStream.
  TokenLoader(const std::string& pattern, int rank, int world_size, int vocab_size = kMaxVocabSize);

  /// One span per micro-step.
  std::span<const int64_t> next(int64_t global_tokens, int grad_accum_steps) override;

  TokenCursor cursor() const override { return stream_.cursor(); }
  void seek(TokenCursor cursor) override { stream_.seek(cursor); }
  int64_t span_tokens(int64_t local_tokens) const override { return local_tokens; }
  size_t file_count() const override { return stream_.files().size(); }

 private:
  TokenStream stream_;
  int rank_;
  int world_size_;
  std::vector<uint16_t> chunk_;  // of all ranks
  std::vector<int64_t> local_;
};

}  // namespace pgolf
