#include "pgolf/ops/heads.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include "fast.h"
#include "weight_forms.h"

namespace pgolf::ops {

std::array<at::Tensor, 3> qkv_heads(const at::Tensor& x, const LinearWeight& q, const LinearWeight& k, const LinearWeight& v,
                                    const at::Tensor& q_gain, const RopeTable* table, OpsPath path, bool qk_norm) {
  if (path == OpsPath::fast && !cpu::covers_linear(x, {q, k, v})) {
    RECORD_USER_SCOPE("qkv_heads");
    if (auto heads = fast::qkv_heads(x, q, k, v, q_gain, table, qk_norm); heads[0].defined()) return heads;
  }
  const auto projected = linear_qkv(x, q, k, v, path);
  const int64_t dim = q.value.size(0) / q_gain.size(0);
  const auto heads = [&](size_t i) { return projected[i].unflatten(-1, {-1, dim}); };
  auto [rotated_q, rotated_k] = qk_norm_rope_gain(heads(0), heads(1), q_gain, table, path, qk_norm);
  return {std::move(rotated_q), std::move(rotated_k), heads(2).transpose(1, 2)};
}

}  // namespace pgolf::ops
