// The tokens of an optimiser step on the device, and in how many passes they go through the model.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/data/token_loader.h"
#include "pgolf/dist/process.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// Forward and backward passes per optimiser step: the Python program's grad_accum_steps, or fewer of them with the windows of
/// several micro-steps side by side (MICRO_BATCH_TOKENS). The gradient is the same mean over all windows; only sums are
/// rounded in another order. Every micro-step still takes its own chunk of the token stream.
int passes_per_step(const RunConfig& config, const Runtime& runtime, const Process& process);

class MicroBatches {
 public:
  MicroBatches(const RunConfig& config, const Runtime& runtime, const Process& process);

  /// Takes the next step's tokens from the loader. On a GPU they are on their way when this returns, in stream order; the last
  /// ones must have been used up by then.
  void load(TokenLoader& loader);

  int64_t passes() const { return passes_; }
  struct Pass {
    at::Tensor inputs, targets;  ///< [windows, TRAIN_SEQ_LEN] int64, always in the same memory
  };
  Pass pass(int64_t i) const;

 private:
  int64_t train_batch_tokens_, seq_len_, passes_;
  at::Tensor host_;    ///< [micro-steps, tokens + 1], in pinned memory for a GPU
  at::Tensor device_;  ///< [2, micro-steps, tokens]: inputs and targets
};

}  // namespace pgolf
