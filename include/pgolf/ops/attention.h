// Causal scaled dot-product attention with grouped queries.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/run_config.h"

namespace pgolf::ops {

/// softmax(q k^T / sqrt(D) + causal mask) v; query head h reads key/value head h / (Hq / Hkv).
/// q [B, Hq, T, D], k and v [B, Hkv, T, D] -> [B, Hq, T, D]. Differentiable.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, OpsPath path);

}  // namespace pgolf::ops
