#include "pgolf/data/token_loader.h"

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {

TokenLoader::TokenLoader(const std::string& pattern, int rank, int world_size, int vocab_size)
    : stream_(pattern, vocab_size), rank_(rank), world_size_(world_size) {
  if (rank < 0 || rank >= world_size) {
    throw Error(ExitCode::usage, format("rank %d is out of range for world size %d", rank, world_size));
  }
}

std::span<const int64_t> TokenLoader::next(int64_t global_tokens, int grad_accum_steps) {
  const int64_t local_tokens = global_tokens / (static_cast<int64_t>(world_size_) * grad_accum_steps);
  if (local_tokens < 1) {
    throw Error(ExitCode::usage,
                format("a batch of %lld tokens is too small for %d ranks and %d micro-steps",
                       static_cast<long long>(global_tokens), world_size_, grad_accum_steps),
                "increase TRAIN_BATCH_TOKENS");
  }
  const size_t span = static_cast<size_t>(local_tokens) + 1;
  chunk_.resize(span * static_cast<size_t>(world_size_));
  stream_.take(chunk_);
  const auto mine = std::span(chunk_).subspan(span * static_cast<size_t>(rank_), span);
  local_.assign(mine.begin(), mine.end());
  return local_;
}

}  // namespace pgolf
