// The tokens of an optimizer step on the device, divided into micro-batches (config/micro_steps.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <future>
#include <memory>

#include "pgolf/data/batch_loader.h"
#include "pgolf/dist/process.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// How an optimizer step is divided into micro-batches.
struct MicroBatchPlan {
  int micro_batches;  ///< per step: upstream's grad_accum_steps, or fewer if a micro-batch has several micro-steps
  int parallel;       ///< micro-batches in parallel, one thread each; 1: one at a time, with all threads
};

/// From MICRO_BATCH_TOKENS and PARALLEL_PASSES. The gradient is the same mean over all windows, up to the rounding of sums in a
/// different order. Every micro-step still takes its own chunk of the token stream.
/// Error(usage) for PARALLEL_PASSES > 1 unless on the CPU with OPS=fast.
MicroBatchPlan plan_micro_batches(const RunConfig& config, const Runtime& runtime, const Process& process);

/// A new loader of this process's training tokens, at their start.
std::unique_ptr<BatchLoader> make_loader(const RunConfig& config, const Process& process);

class MicroBatches {
 public:
  /// Opens the training shards.
  MicroBatches(const RunConfig& config, const Runtime& runtime, const Process& process);
  MicroBatches(const MicroBatches&) = delete;
  MicroBatches& operator=(const MicroBatches&) = delete;

  /// Copies the next step's tokens to the device. A background thread has read them during the last step and now starts reading
  /// those of the step after. On a GPU the copy is asynchronous, in stream order; the previous tokens must have been consumed by
  /// then. Read errors are thrown here.
  void load();

  /// Position of the first token not yet loaded; the loader's.
  TokenCursor cursor() const { return cursor_; }
  void seek(TokenCursor cursor);
  size_t file_count() const { return loader_->file_count(); }

  const MicroBatchPlan& plan() const { return plan_; }
  int64_t count() const { return plan_.micro_batches; }
  struct MicroBatch {
    at::Tensor inputs, targets;  ///< [windows, TRAIN_SEQ_LEN] int64, always in the same memory
  };
  MicroBatch get(int64_t i) const;

 private:
  void read_ahead();

  std::unique_ptr<BatchLoader> loader_;
  TokenCursor cursor_;
  int64_t train_batch_tokens_, grad_accum_steps_, seq_len_;
  MicroBatchPlan plan_;
  at::Tensor host_;      ///< [2, the loader's spans, their tokens + 1], in pinned memory for a GPU
  at::Tensor device_;    ///< [2, spans, tokens]: inputs and targets
  int64_t reading_ = 0;  ///< index of the half of host_ being filled
  std::future<void> ahead_;
};

}  // namespace pgolf
