// Soft-capped cross-entropy over the vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// cap * tanh(logits / cap), in logits' dtype (Gemma 2's soft cap); cap 0: returns the logits. [..., V] -> [..., V].
at::Tensor softcap(const at::Tensor& logits, double cap);

/// mean over rows of -log softmax(softcap(logits))[target]; the softmax in float32.
/// logits [N, V] before the cap, float32 or bfloat16; targets [N] int64 in 0 .. V-1 -> scalar float32. Differentiable in logits;
/// on the fast path backward() works only once (it hands over its gradient buffer). Targets out of range throw on the CPU; on
/// CUDA, where checking would synchronize, such a row makes the loss NaN.
/// gradient: the expected incoming gradient of backward(), if known; with any other the fast path rescales its buffer.
at::Tensor softcap_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double cap, OpsPath path,
                                 double gradient = 1);

/// Per-row losses; softcap_cross_entropy is their mean. -> [N] float32. No gradient.
at::Tensor softcap_token_losses(const at::Tensor& logits, const at::Tensor& targets, double cap, OpsPath path);

}  // namespace pgolf::ops
