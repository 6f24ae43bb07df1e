#include "pgolf/ops/exclusive.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include "fast.h"

namespace pgolf::ops {

at::Tensor exclude_value(const at::Tensor& y, const at::Tensor& v, OpsPath path) {
  RECORD_USER_SCOPE("exclude_value");
  if (path == OpsPath::fast) {
    if (auto rest = fast::exclude_value(y, v); rest.defined()) return rest;
  }
  constexpr double eps = 1e-12;
  const int64_t kv_heads = v.size(2);
  const auto norm = v.norm(2, -1, /*keepdim=*/true).clamp_min(eps);
  const auto direction = (v / norm.expand_as(v)).unsqueeze(3);  // [B, T, Hkv, 1, D]
  const auto grouped = y.unflatten(2, {kv_heads, -1});          // [B, T, Hkv, group, D]
  const auto along = (grouped * direction).sum(-1, /*keepdim=*/true) * direction;
  return (grouped - along).flatten(2, 3);
}

}  // namespace pgolf::ops
