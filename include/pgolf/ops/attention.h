// Causal scaled dot-product attention with grouped queries.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/run_config.h"

namespace pgolf::ops {

/// softmax(q k^T / sqrt(D) + causal mask) v; query head h reads key/value head h / (Hq / Hkv).
/// q [B, Hq, T, D], k and v [B, Hkv, T, D] -> [B, Hq, T, D]. Differentiable. There may be more keys and values than queries: the
/// queries are then those of the last T positions, and the same plain form serves both paths.
/// The fast path takes CPU tensors of float32 or bfloat16 with any strides, D a multiple of 16 up to 256; its result is a view
/// of a dense [B, T, Hq, D], does not depend on the number of threads, and has no second derivative.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, OpsPath path);

}  // namespace pgolf::ops
