// Operations on the residual stream: mixing with the first layer's input, and scaled addition; each also fused with the
// normalization of its result for the next branch.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// mix[0] * x + mix[1] * x0, mix rows broadcast over the leading dimensions.
/// x, x0 [B, T, C]; mix [2, C] float32 (cast to x's dtype) -> [B, T, C]. Differentiable in all three.
at::Tensor residual_mix(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix, OpsPath path);

/// x + scale * branch, scale [C] float32 (cast to x's dtype) broadcast over [B, T, C]. Differentiable in all three.
at::Tensor scaled_add(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch, OpsPath path);

/// lerp(weight * skip, x, sigmoid(gate)): a gate of infinity keeps x. weight and gate [C] float32 (cast to x's dtype) broadcast
/// over x and skip [B, T, C]. Differentiable in all four.
at::Tensor gated_skip(const at::Tensor& x, const at::Tensor& skip, const at::Tensor& weight, const at::Tensor& gate,
                      OpsPath path);

/// A residual stream and rms_norm(x) times norm_factor (rms_norm.h), fused on the fast path, forward and backward.
struct Normed {
  at::Tensor x, normed;
};

/// x = residual_mix(x, x0, mix).
Normed residual_mix_norm(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix, OpsPath path, double norm_factor = 1);

/// x = scaled_add(x, scale, branch).
Normed scaled_add_norm(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch, OpsPath path,
                       double norm_factor = 1);

}  // namespace pgolf::ops
