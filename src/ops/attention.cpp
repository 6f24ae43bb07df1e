#include "pgolf/ops/attention.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include <limits>
#include <optional>

#include "cpu_ops.h"

namespace pgolf::ops {
namespace {

/// q of the last of k's positions. The heads that share a key head become rows of one: keys are not repeated.
at::Tensor attend_from_the_end(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t batch = q.size(0), heads = q.size(1), time = q.size(2), dim = q.size(3);
  const int64_t kv_heads = k.size(1), keys = k.size(2), group = heads / kv_heads;
  std::optional<at::Tensor> mask;  // [group * time, keys], added to the scores; a single query sees all keys
  if (time > 1) {
    const auto hidden = at::full({time, keys}, -std::numeric_limits<double>::infinity(), q.options()).triu(keys - time + 1);
    mask = hidden.repeat({group, 1});
  }
  const auto y = at::scaled_dot_product_attention(q.reshape({batch, kv_heads, group * time, dim}), k, v, mask);
  return y.reshape({batch, heads, time, dim});
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, OpsPath path) {
  RECORD_USER_SCOPE("causal_attention");
  if (k.size(2) > q.size(2)) return attend_from_the_end(q, k, v);
  if (path == OpsPath::fast) {
    if (auto y = cpu::causal_attention(q, k, v); y.defined()) return y;
  }
  return at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true,
                                          /*scale=*/std::nullopt, /*enable_gqa=*/q.size(1) != k.size(1));
}

}  // namespace pgolf::ops
