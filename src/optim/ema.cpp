#include "pgolf/optim/ema.h"

#include <torch/types.h>

namespace pgolf {

WeightAverage::WeightAverage(Gpt& model, double decay) : decay_(decay) {
  if (!enabled()) return;
  for (const auto& [name, tensor] : state_dict(model)) {
    if (tensor.numel() == 0) continue;
    parameters_.emplace_back(name, tensor);
    averages_.push_back(tensor.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true));
  }
}

void WeightAverage::restart() {
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].copy_(parameters_[i].second);
}

void WeightAverage::update() {
  if (!enabled()) return;
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> values;
  for (const auto& [name, tensor] : parameters_) values.push_back(tensor.to(at::kFloat));
  at::_foreach_mul_(averages_, decay_);
  at::_foreach_add_(averages_, values, 1 - decay_);
}

void WeightAverage::copy_to_model() {
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) parameters_[i].second.copy_(averages_[i]);
}

StateDict WeightAverage::state() const {
  StateDict out;
  for (size_t i = 0; i < averages_.size(); ++i) out.emplace_back("ema." + parameters_[i].first, averages_[i]);
  return out;
}

}  // namespace pgolf
