// The MLP's elementwise part, between its matrix products (MlpKind).
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/mlp_kind.h"
#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// y = max(x, 0)^2, elementwise, in x's dtype. Differentiable.
at::Tensor relu_squared(const at::Tensor& x, OpsPath path);

/// All kinds but swiglu, elementwise, in x's dtype. leaky_slope: negative slope of the leaky kinds. Differentiable.
at::Tensor mlp_activation(const at::Tensor& x, MlpKind kind, double leaky_slope, OpsPath path);

/// silu(gate) * up, elementwise. Differentiable in both.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up, OpsPath path);

}  // namespace pgolf::ops
