#include "pgolf/train/micro_batches.h"

#include <torch/types.h>

#include <algorithm>

namespace pgolf {

int passes_per_step(const RunConfig& config, const Runtime& runtime, const Process& process) {
  const int micro_steps = process.grad_accum_steps();
  const int64_t tokens = config.data.train_batch_tokens / (int64_t{process.world_size()} * micro_steps);
  int64_t wanted = config.data.micro_batch_tokens;
  if (wanted == 0) {
    // Small passes spend their time between the operations; larger ones gain nothing and take memory.
    constexpr int64_t little = 1 << 18;  // elements of the residual stream
    const bool join = config.runtime.ops == OpsPath::fast && runtime.device.is_cpu();
    wanted = join ? std::max(little / config.model.model_dim, tokens) : tokens;
  }
  int together = 1;
  while (micro_steps % (2 * together) == 0 && 2 * together * tokens <= wanted) together *= 2;
  return micro_steps / together;
}

MicroBatches::MicroBatches(const RunConfig& config, const Runtime& runtime, const Process& process)
    : train_batch_tokens_(config.data.train_batch_tokens),
      seq_len_(config.data.train_seq_len),
      passes_(passes_per_step(config, runtime, process)) {
  const int64_t micro_steps = process.grad_accum_steps();
  const int64_t tokens = train_batch_tokens_ / (process.world_size() * micro_steps);
  const auto options = at::TensorOptions().dtype(at::kLong);
  host_ = torch::empty({micro_steps, tokens + 1}, options.pinned_memory(runtime.device.is_cuda()));
  device_ = torch::empty({2, micro_steps, tokens}, options.device(runtime.device));
}

void MicroBatches::load(TokenLoader& loader) {
  const int64_t micro_steps = host_.size(0), tokens = host_.size(1) - 1;
  for (int64_t i = 0; i < micro_steps; ++i) {
    const auto chunk = loader.next(train_batch_tokens_, static_cast<int>(micro_steps));
    std::copy(chunk.begin(), chunk.end(), host_[i].mutable_data_ptr<int64_t>());
  }
  if (device_.is_cuda()) {
    const auto all = host_.to(device_.device(), /*non_blocking=*/true);
    for (int64_t i = 0; i < 2; ++i) device_[i].copy_(all.narrow(1, i, tokens));
  } else {
    for (int64_t i = 0; i < 2; ++i) device_[i].copy_(host_.narrow(1, i, tokens));
  }
}

MicroBatches::Pass MicroBatches::pass(int64_t i) const {
  const int64_t together = device_.size(1) / passes_;
  const auto windows = [&](int64_t which) { return device_[which].narrow(0, i * together, together).view({-1, seq_len_}); };
  return {windows(0), windows(1)};
}

}  // namespace pgolf
