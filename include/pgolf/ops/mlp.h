// The squared ReLU of the MLP (arXiv 2109.08668).
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/run_config.h"

namespace pgolf::ops {

/// y = max(x, 0)^2, elementwise, in x's dtype. Differentiable.
at::Tensor relu_squared(const at::Tensor& x, OpsPath path);

}  // namespace pgolf::ops
