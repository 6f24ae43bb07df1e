// Soft-capped cross-entropy over the vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// cap * tanh(logits / cap), in logits' dtype (Gemma 2's soft cap); cap 0: the logits. [..., V] -> [..., V].
at::Tensor softcap(const at::Tensor& logits, double cap);

/// mean over rows of -log softmax(softcap(logits))[target]; the softmax in float32.
/// logits [N, V] before the cap, float32 or bfloat16; targets [N] int64 in 0 .. V-1 -> scalar float32. Differentiable in logits;
/// the fast path's result goes backward once only (its gradient buffer is handed on). It refuses targets out of range on
/// the CPU; on CUDA, where looking would mean waiting, such a row makes the loss NaN.
/// gradient: the one that backward() will arrive with, where that is known; with any other the fast path has to go through its
/// buffer once more.
at::Tensor softcap_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double cap, OpsPath path,
                                 double gradient = 1);

/// The rows' losses, of which softcap_cross_entropy is the mean. -> [N] float32. Without gradient.
at::Tensor softcap_token_losses(const at::Tensor& logits, const at::Tensor& targets, double cap, OpsPath path);

}  // namespace pgolf::ops
