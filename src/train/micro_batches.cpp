#include "pgolf/train/micro_batches.h"

#include <torch/types.h>

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {

PassPlan plan_passes(const RunConfig& config, const Runtime& runtime, const Process& process) {
  const int micro_steps = process.grad_accum_steps();
  const int64_t tokens = config.data.train_batch_tokens / (int64_t{process.world_size()} * micro_steps),
                elements = tokens * config.model.model_dim;  // of a micro-step's residual stream
  const bool fast_cpu = config.runtime.ops == OpsPath::fast && runtime.device.is_cpu();
  int64_t wanted = config.data.micro_batch_tokens;
  const int64_t most_passes = wanted > 0 ? std::max<int64_t>(1, micro_steps * tokens / wanted) : micro_steps;
  int at_once = config.data.parallel_passes;
  if (at_once > 1 && (!fast_cpu || at_once > micro_steps)) {
    throw Error(ExitCode::usage,
                format("PARALLEL_PASSES=%d is for OPS=fast on the CPU and a process with as many micro-steps", at_once),
                "leave it at 0 or 1");
  }
  if (at_once == 0) {
    at_once = 1;
    // Threads that work on passes of their own need not wait for each other at every operation, but take memory for their
    // activations, so only where that is little: a few hundred bytes for each of these elements.
    constexpr int64_t little = 1 << 22;
    if (fast_cpu && elements * config.model.num_layers <= little) {
      while (most_passes % (2 * at_once) == 0 && 2 * at_once <= runtime.num_threads) at_once *= 2;
      if (2 * at_once <= runtime.num_threads) at_once = 1;  // half the threads would have nothing to do
    }
  }
  if (wanted == 0) {
    // Small passes spend their time between the operations; larger ones leave the caches and take memory.
    constexpr int64_t little = 1 << 18;
    wanted = fast_cpu ? std::max(little / config.model.model_dim, tokens) : tokens;
  }
  int together = 1;
  while (micro_steps % (2 * together * at_once) == 0 && 2 * together * tokens <= wanted) together *= 2;
  return {micro_steps / together, at_once};
}

MicroBatches::MicroBatches(const RunConfig& config, const Runtime& runtime, const Process& process)
    : loader_(config.data.train_files(), process.rank(), process.world_size(), config.model.vocab_size),
      cursor_(loader_.cursor()),
      train_batch_tokens_(config.data.train_batch_tokens),
      seq_len_(config.data.train_seq_len),
      plan_(plan_passes(config, runtime, process)) {
  const int64_t micro_steps = process.grad_accum_steps();
  const int64_t tokens = train_batch_tokens_ / (process.world_size() * micro_steps);
  const auto options = at::TensorOptions().dtype(at::kLong);
  host_ = torch::empty({2, micro_steps, tokens + 1}, options.pinned_memory(runtime.device.is_cuda()));
  device_ = torch::empty({2, micro_steps, tokens}, options.device(runtime.device));
}

void MicroBatches::read_ahead() {
  auto* const to = host_[reading_].mutable_data_ptr<int64_t>();
  ahead_ = std::async(std::launch::async, [this, to, micro_steps = host_.size(1), width = host_.size(2)] {
    for (int64_t i = 0; i < micro_steps; ++i) {
      const auto chunk = loader_.next(train_batch_tokens_, static_cast<int>(micro_steps));
      std::copy(chunk.begin(), chunk.end(), to + i * width);
    }
  });
}

void MicroBatches::load() {
  if (!ahead_.valid()) read_ahead();
  ahead_.get();
  cursor_ = loader_.cursor();
  const auto host = host_[reading_];
  reading_ ^= 1;
  read_ahead();
  const int64_t tokens = device_.size(2);
  if (device_.is_cuda()) {
    const auto all = host.to(device_.device(), /*non_blocking=*/true);
    for (int64_t i = 0; i < 2; ++i) device_[i].copy_(all.narrow(1, i, tokens));
  } else {
    for (int64_t i = 0; i < 2; ++i) device_[i].copy_(host.narrow(1, i, tokens));
  }
}

void MicroBatches::seek(TokenCursor cursor) {
  ahead_ = {};  // waits for the thread
  loader_.seek(cursor);
  cursor_ = cursor;
}

MicroBatches::Pass MicroBatches::pass(int64_t i) const {
  const int64_t together = device_.size(1) / plan_.passes;
  const auto windows = [&](int64_t which) { return device_[which].narrow(0, i * together, together).view({-1, seq_len_}); };
  return {windows(0), windows(1)};
}

}  // namespace pgolf
