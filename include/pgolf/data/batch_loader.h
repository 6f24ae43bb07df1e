// What the training loop needs of a loader of training tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "pgolf/data/token_stream.h"

namespace pgolf {

/// One rank's training tokens, micro-step by micro-step.
class BatchLoader {
 public:
  virtual ~BatchLoader() = default;

  /// The next micro-step's tokens for this rank, in spans of whole windows: each span has one token more than its windows. Inputs
  /// are all of a span's tokens but the last, targets all but the first. local_tokens, the inputs of all spans together, is
  /// global_tokens / (world_size * grad_accum_steps), rounded down to whole spans. Valid until the next call. Error(usage) if
  /// that is 0.
  virtual std::span<const int64_t> next(int64_t global_tokens, int grad_accum_steps) = 0;

  /// Tokens of a span, without its additional one, of a micro-step of local_tokens.
  virtual int64_t span_tokens(int64_t local_tokens) const = 0;

  /// The place of the next token: what seek() needs in another loader of the same files and rank. Error(bad_input) if it lies
  /// outside.
  virtual TokenCursor cursor() const = 0;
  virtual void seek(TokenCursor cursor) = 0;

  /// Shards of the split, over all ranks.
  virtual size_t file_count() const = 0;
};

}  // namespace pgolf
