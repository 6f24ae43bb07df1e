// Attention's queries, keys and values from its input.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>

#include "pgolf/config/ops_path.h"
#include "pgolf/ops/linear.h"
#include "pgolf/ops/rope.h"

namespace pgolf::ops {

/// linear_qkv (linear.h), the results as heads, then qk_norm_rope_gain (rope.h).
/// x [B, T, C]; q [Hq D, C], k and v [Hkv D, C]; q_gain [Hq] -> q [B, Hq, T, D], k and v [B, Hkv, T, D] in x's dtype.
/// table == nullptr: no rotation. Differentiable in x, the weights and q_gain; where the fast path fuses it, the weights'
/// gradients are consecutive in memory.
std::array<at::Tensor, 3> qkv_heads(const at::Tensor& x, const LinearWeight& q, const LinearWeight& k, const LinearWeight& v,
                                    const at::Tensor& q_gain, const RopeTable* table, OpsPath path, bool qk_norm = true);

}  // namespace pgolf::ops
