// The tokens of an optimiser step on the device, and in how many passes they go through the model.
#pragma once

#include <ATen/core/Tensor.h>

#include <future>

#include "pgolf/data/token_loader.h"
#include "pgolf/dist/process.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// The forward and backward passes of an optimiser step.
struct PassPlan {
  int passes;   ///< the Python program's grad_accum_steps, or fewer with the windows of several micro-steps side by side
  int at_once;  ///< passes under way at a time, a thread each; 1: one, with all threads
};

/// From MICRO_BATCH_TOKENS and PARALLEL_PASSES. The gradient is the same mean over all windows; only sums are rounded in another
/// order. Every micro-step still takes its own chunk of the token stream.
/// Error(usage) for PARALLEL_PASSES > 1 elsewhere than on the CPU with OPS=fast.
PassPlan plan_passes(const RunConfig& config, const Runtime& runtime, const Process& process);

class MicroBatches {
 public:
  /// Opens the training shards.
  MicroBatches(const RunConfig& config, const Runtime& runtime, const Process& process);
  MicroBatches(const MicroBatches&) = delete;
  MicroBatches& operator=(const MicroBatches&) = delete;

  /// Brings the next step's tokens to the device. Another thread read them during the last step and now begins with those of the
  /// step after. On a GPU they are on their way when this returns, in stream order; the last ones must have been used up by then.
  /// Errors of the reading appear here.
  void load();

  /// Where the tokens that were not loaded yet begin.
  TokenCursor cursor() const { return cursor_; }
  void seek(TokenCursor cursor);
  size_t file_count() const { return loader_.stream().files().size(); }

  const PassPlan& plan() const { return plan_; }
  int64_t passes() const { return plan_.passes; }
  struct Pass {
    at::Tensor inputs, targets;  ///< [windows, TRAIN_SEQ_LEN] int64, always in the same memory
  };
  Pass pass(int64_t i) const;

 private:
  void read_ahead();

  TokenLoader loader_;
  TokenCursor cursor_;
  int64_t train_batch_tokens_, seq_len_;
  PassPlan plan_;
  at::Tensor host_;      ///< [2, micro-steps, tokens + 1], in pinned memory for a GPU
  at::Tensor device_;    ///< [2, micro-steps, tokens]: inputs and targets
  int64_t reading_ = 0;  ///< the half of host_ that is being read into
  std::future<void> ahead_;
};

}  // namespace pgolf
