// Root-mean-square normalization over the last dimension (arXiv 1910.07467).
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// y = x / sqrt(mean(x^2) + eps), computed in float32, eps = 1.1920929e-07 (float32's machine epsilon, for
/// bfloat16 input too: what F.rms_norm(eps=None) uses in PyTorch 2.11); the result times factor.
/// x [..., D] float32 or bfloat16 -> same shape and dtype. Differentiable.
at::Tensor rms_norm(const at::Tensor& x, OpsPath path, double factor = 1);

/// weight * normed, the learned part of a norm: weight [D] float32, cast to normed's dtype. Differentiable in both.
at::Tensor norm_weight(const at::Tensor& normed, const at::Tensor& weight);

}  // namespace pgolf::ops
