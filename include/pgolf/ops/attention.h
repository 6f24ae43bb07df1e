// Causal scaled dot-product attention with grouped queries.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// softmax(q k^T / sqrt(D) + causal mask) v; query head h reads key/value head h / (Hq / Hkv).
/// q [B, Hq, T, D], k and v [B, Hkv, T, D] -> [B, Hq, T, D]. Differentiable. There may be more keys and values than queries: the
/// queries are then those of the last T positions, and on the CPU the same plain form serves both paths.
/// The fast path takes CPU tensors of float32 or bfloat16 with any strides, D a multiple of 16 up to 256; its result is a view
/// of a dense [B, T, Hq, D], does not depend on the number of threads, and has no second derivative.
/// On CUDA training leaves the choice to LibTorch (attention_backend()); without a gradient, and for more keys than queries, the
/// fast path takes bfloat16 to flash attention, and all else goes LibTorch's plain way.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, OpsPath path);

/// What computes training's attention for tensors like these: "own" (the CPU's fast path), or LibTorch's choice among "cudnn",
/// "flash", "efficient" and "math"; "none": it will throw.
const char* attention_backend(int64_t heads, int64_t kv_heads, int64_t time, int64_t dim, const at::TensorOptions& options,
                              OpsPath path);

}  // namespace pgolf::ops
