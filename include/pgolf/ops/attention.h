// Causal scaled dot-product attention with grouped queries.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// softmax(q k^T / sqrt(D) + causal mask) v; query head h reads key/value head h / (Hq / Hkv).
/// q [B, Hq, T, D], k and v [B, Hkv, T, D] -> [B, Hq, T, D]. Differentiable. With more keys and values than
/// queries, the queries belong to the last T positions, and on the CPU both paths use the same reference form.
/// The fast path takes CPU tensors of float32 or bfloat16 with any strides, D a multiple of 16 up to 256; its result is a view
/// of a dense [B, T, Hq, D], does not depend on the number of threads, and has no second derivative.
/// On CUDA, training uses the backend that LibTorch chooses (attention_backend()). Without a gradient, for more keys than
/// queries, and with a window, the fast path uses flash attention for bfloat16; everything else goes to LibTorch.
/// window > 0 (Longformer, arXiv 2004.05150): query i sees only the keys from i - window + 1 on. The fast paths then skip the
/// others (the CPU's in float32 vectors also for bfloat16); LibTorch's masks them.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, OpsPath path, int64_t window = 0);

/// The attention backend for training with such tensors: "own" (the CPU's fast path), or LibTorch's choice among "cudnn",
/// "flash", "efficient" and "math"; "none": none fits, causal_attention() throws. window: as causal_attention()'s.
const char* attention_backend(int64_t heads, int64_t kv_heads, int64_t time, int64_t dim, const at::TensorOptions& options,
                              OpsPath path, int64_t window = 0);

}  // namespace pgolf::ops
