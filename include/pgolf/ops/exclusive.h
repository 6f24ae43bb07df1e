// Exclusive self-attention (XSA): attention's result without what the position's own value already says.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// y - (y . n) n, n = v / max(|v|, 1e-12): each head of y without its component along the value of the same position; query head
/// h takes value head h / (Hq / Hkv). y [B, T, Hq, D], v [B, T, Hkv, D] -> [B, T, Hq, D]. Differentiable in both.
at::Tensor exclude_value(const at::Tensor& y, const at::Tensor& v, OpsPath path);

}  // namespace pgolf::ops
