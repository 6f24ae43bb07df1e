// A bias-free linear layer whose weight is stored in float32 and used in the activations' dtype.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <functional>

#include "pgolf/ops/linear.h"

namespace pgolf {

/// y = x W^T. Draws W as torch.nn.Linear does (Kaiming uniform, a = sqrt(5)) even when the model zeroes it afterwards,
/// so that the generator's stream matches upstream's.
class CastedLinearImpl : public torch::nn::Module {
 public:
  CastedLinearImpl(int64_t in_features, int64_t out_features);

  at::Tensor forward(const at::Tensor& x, OpsPath path);  ///< [..., in] -> [..., out]

  /// The weight for an op that takes several layers at once.
  const ops::LinearWeight& prepared() const { return prepared_; }

  /// Called with forward()'s input, for measurements; must not change it. The queries', keys' and values' layers are not called:
  /// CausalSelfAttention's observer sees their input. An MLP whose proj has an observer calls its layers one by one.
  std::function<void(const at::Tensor& x)> observer;

  at::Tensor weight;  ///< [out, in] float32

 private:
  ops::LinearWeight prepared_;
};
TORCH_MODULE(CastedLinear);

}  // namespace pgolf
