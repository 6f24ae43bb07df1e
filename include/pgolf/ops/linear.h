// Products of activations with weights that are stored in float32 and used in the activations' dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <memory>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

class WeightForms;

/// The weight of a bias-free linear layer and the forms that the fast path derives from it (rounded, packed for the
/// processor's matrix unit). They are made on first use after the weight has changed, so once per optimizer step regardless of
/// the number of micro-batches. Copies share both.
struct LinearWeight {
  explicit LinearWeight(at::Tensor weight);

  at::Tensor value;  ///< [out, in]
  std::shared_ptr<WeightForms> forms;
};

/// Call this for a parameter that was written by a kernel or by LibTorch's fused optimizers: those do not bump the tensor's
/// version, by which stale forms are detected.
void mark_changed(const at::Tensor& parameter);

/// y = x W^T. x [..., in] -> [..., out] in x's dtype; W is cast to it. Differentiable in x and W.
///
/// On the fast path, here and below, backward adds a float32 weight's gradient to W.grad() in place, without rounding
/// it to the activations' dtype first, and hands autograd an undefined one: use backward(), not autograd::grad().
at::Tensor linear(const at::Tensor& x, const LinearWeight& weight, OpsPath path);

/// Three linear layers of the same input.
std::array<at::Tensor, 3> linear_qkv(const at::Tensor& x, const LinearWeight& q, const LinearWeight& k, const LinearWeight& v,
                                     OpsPath path);

/// proj(leaky_squared(fc(x), slope)), hidden width fc.value.size(0); with slope 0 the MLP of arXiv 2109.08668.
at::Tensor leaky_squared_mlp(const at::Tensor& x, const LinearWeight& fc, const LinearWeight& proj, double slope, OpsPath path);

}  // namespace pgolf::ops
