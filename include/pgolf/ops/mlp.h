// The MLP's elementwise part, between its matrix products (MlpKind).
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/mlp_kind.h"
#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// y = x^2, below zero (slope * x)^2; elementwise, in x's dtype. Slope 0 is relu^2. Differentiable in x.
at::Tensor leaky_squared(const at::Tensor& x, double slope, OpsPath path);

/// All kinds but swiglu, elementwise, in x's dtype. slope: below zero, of the leaky kinds; 0 for relu2. Differentiable.
at::Tensor mlp_activation(const at::Tensor& x, MlpKind kind, double slope, OpsPath path);

/// silu(gate) * up, elementwise. Differentiable in both.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up, OpsPath path);

}  // namespace pgolf::ops
