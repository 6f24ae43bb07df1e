#include "pgolf/train/micro_batches.h"

#include <torch/types.h>

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/data/shuffled_loader.h"
#include "pgolf/data/token_loader.h"

namespace pgolf {

MicroBatchPlan plan_micro_batches(const RunConfig& config, const Runtime& runtime, const Process& process) {
  const int grad_accum_steps = process.grad_accum_steps();
  const int64_t tokens = config.data.train_batch_tokens / (int64_t{process.world_size()} * grad_accum_steps),
                elements = tokens * config.model.model_dim;  // of a micro-step's residual stream
  const bool fast_cpu = config.runtime.ops == OpsPath::fast && runtime.device.is_cpu();
  int64_t wanted = config.data.micro_batch_tokens;
  const int64_t max_micro_batches = wanted > 0 ? std::max<int64_t>(1, grad_accum_steps * tokens / wanted) : grad_accum_steps;
  int parallel = config.data.parallel_passes;
  if (parallel > 1 && (!fast_cpu || parallel > grad_accum_steps)) {
    throw Error(ExitCode::usage,
                format("PARALLEL_PASSES=%d needs OPS=fast on the CPU, and at least as many micro-steps per process", parallel),
                "set it to 0 or 1");
  }
  if (parallel == 0) {
    parallel = 1;
    // Threads with their own micro-batches do not synchronize at every operation, but each needs memory for activations, so this
    // is only for small models: a few hundred bytes per element counted here.
    constexpr int64_t max_elements = 1 << 22;
    if (fast_cpu && elements * config.model.full_order().passes() <= max_elements) {
      while (max_micro_batches % (2 * parallel) == 0 && 2 * parallel <= runtime.num_threads) parallel *= 2;
      if (2 * parallel <= runtime.num_threads) parallel = 1;  // at least half the threads would be idle
    }
  }
  if (wanted == 0) {
    // Small micro-batches are dominated by per-operation overhead; large ones exceed the caches and need memory.
    constexpr int64_t elements_in_cache = 1 << 18;
    wanted = fast_cpu ? std::max(elements_in_cache / config.model.model_dim, tokens) : tokens;
  }
  int steps_per_batch = 1;
  while (grad_accum_steps % (2 * steps_per_batch * parallel) == 0 && 2 * steps_per_batch * tokens <= wanted) steps_per_batch *= 2;
  return {grad_accum_steps / steps_per_batch, parallel};
}

std::unique_ptr<BatchLoader> make_loader(const RunConfig& config, const Process& process) {
  const auto& data = config.data;
  const int rank = process.rank(), world_size = process.world_size(), vocab_size = config.model.vocab_size;
  if (data.loader == LoaderChoice::stream) {
    return std::make_unique<TokenLoader>(data.train_files(), rank, world_size, vocab_size);
  }
  return std::make_unique<ShuffledLoader>(data.train_files(), data.train_seq_len, rank, world_size, vocab_size);
}

MicroBatches::MicroBatches(const RunConfig& config, const Runtime& runtime, const Process& process)
    : loader_(make_loader(config, process)),
      cursor_(loader_->cursor()),
      train_batch_tokens_(config.data.train_batch_tokens),
      grad_accum_steps_(process.grad_accum_steps()),
      seq_len_(config.data.train_seq_len),
      plan_(plan_micro_batches(config, runtime, process)) {
  const int64_t tokens = train_batch_tokens_ / (process.world_size() * grad_accum_steps_);
  const int64_t span = loader_->span_tokens(tokens);
  const int64_t spans = grad_accum_steps_ * tokens / span;
  const auto options = at::TensorOptions().dtype(at::kLong);
  host_ = torch::empty({2, spans, span + 1}, options.pinned_memory(runtime.device.is_cuda()));
  device_ = torch::empty({2, spans, span}, options.device(runtime.device));
}

void MicroBatches::read_ahead() {
  auto* const first = host_[reading_].mutable_data_ptr<int64_t>();
  ahead_ = std::async(std::launch::async, [this, first] {
    auto* to = first;
    for (int64_t i = 0; i < grad_accum_steps_; ++i) {
      to = std::ranges::copy(loader_->next(train_batch_tokens_, static_cast<int>(grad_accum_steps_)), to).out;
    }
  });
}

void MicroBatches::load() {
  if (!ahead_.valid()) read_ahead();
  ahead_.get();
  cursor_ = loader_->cursor();
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
  loader_->seek(cursor);
  cursor_ = cursor;
}

MicroBatches::MicroBatch MicroBatches::get(int64_t i) const {
  const int64_t spans = device_.size(1) / plan_.micro_batches;
  const auto windows = [&](int64_t which) { return device_[which].narrow(0, i * spans, spans).view({-1, seq_len_}); };
  return {windows(0), windows(1)};
}

}  // namespace pgolf
