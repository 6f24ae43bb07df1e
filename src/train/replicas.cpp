#include "replicas.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <torch/types.h>

#include "pgolf/ops/linear.h"

namespace pgolf {

Replicas::Replicas(Gpt model, OpsPath path, int count) {
  auto generator = at::detail::getDefaultCPUGenerator();
  const auto state = generator.get_state();
  const auto weights = model->parameters();
  const auto config = model->config();
  models_.push_back(std::move(model));
  while (static_cast<int>(models_.size()) < count) {
    Gpt replica(config, path);
    auto parameters = replica->parameters();
    for (size_t i = 0; i < weights.size(); ++i) parameters[i].set_data(weights[i].data());
    models_.push_back(std::move(replica));
  }
  generator.set_state(state);
}

void Replicas::run(int64_t micro_batches, const std::function<void(Gpt&, int64_t)>& f) {
  const auto count = static_cast<int64_t>(models_.size());
  if (count == 1) {
    for (int64_t i = 0; i < micro_batches; ++i) f(models_[0], i);
    return;
  }
  for (int64_t r = 1; r < count; ++r) {
    // The optimizers mark only the model's weights as changed.
    for (const auto& parameter : models_[static_cast<size_t>(r)]->parameters()) ops::mark_changed(parameter);
  }
  const at::ThreadLocalState state;  // the profiler's
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    const at::ThreadLocalStateGuard guard(state);
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = r; i < micro_batches; i += count) f(models_[static_cast<size_t>(r)], i);
    }
  });
  torch::NoGradGuard no_grad;
  const auto sums = models_[0]->parameters();
  for (int64_t r = 1; r < count; ++r) {
    const auto parts = models_[static_cast<size_t>(r)]->parameters();
    for (size_t i = 0; i < sums.size(); ++i) {
      auto &sum = sums[i].mutable_grad(), &part = parts[i].mutable_grad();
      if (part.defined() && sum.defined()) sum.add_(part);
      if (!sum.defined()) sum = part;
      part = at::Tensor();
    }
  }
}

void Replicas::set_extra_passes(int passes) {
  for (auto& model : models_) model->set_extra_passes(passes);
}

void Replicas::drop_rotation() {
  for (auto& model : models_) model->drop_rotation();
}

}  // namespace pgolf
