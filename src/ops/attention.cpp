#include "pgolf/ops/attention.h"

#include <ATen/SDPBackend.h>
#include <ATen/record_function.h>
#include <torch/types.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "cpu.h"

namespace pgolf::ops {
namespace {

/// Whether CUDA's flash attention supports these. Inference uses it rather than cuDNN, which builds a plan for every new length.
bool flash_covers(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t dim = q.size(3);
  return q.is_cuda() && q.scalar_type() == at::kBFloat16 && k.scalar_type() == at::kBFloat16 &&
         v.scalar_type() == at::kBFloat16 && dim % 8 == 0 && dim <= 256;
}

/// q and k end at the same position; their lengths may differ.
at::Tensor flash(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return std::get<0>(at::_scaled_dot_product_flash_attention(q, k, v, /*dropout_p=*/0.0, /*is_causal=*/true));
}

/// The same, of the last `window` positions; the kernel skips the others.
at::Tensor windowed_flash(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window) {
  const auto time_first = [](const at::Tensor& x) { return x.transpose(1, 2); };
  const auto y = std::get<0>(at::_flash_attention_forward(
      time_first(q), time_first(k), time_first(v), /*cum_seq_q=*/{}, /*cum_seq_k=*/{}, q.size(2), k.size(2), /*dropout_p=*/0.0,
      /*is_causal=*/true, /*return_debug_mask=*/false, /*scale=*/std::nullopt, /*window_size_left=*/window - 1,
      /*window_size_right=*/0));
  return time_first(y);
}

/// Queries at the last `time` of `keys` positions: 0 where a query sees a key, -infinity elsewhere. window: 0 = all.
at::Tensor mask_of(int64_t time, int64_t keys, int64_t window, const at::TensorOptions& options) {
  const auto hidden = at::full({time, keys}, -std::numeric_limits<double>::infinity(), options);
  const auto later = hidden.triu(keys - time + 1);
  return window == 0 ? later : at::minimum(later, hidden.tril(keys - time - window));
}

/// q belongs to the last of k's positions. Heads that share a key head become rows of one head, so keys are not repeated.
at::Tensor attend_last_positions(const at::Tensor& q, const at::Tensor& all_k, const at::Tensor& all_v, int64_t window) {
  const int64_t batch = q.size(0), heads = q.size(1), time = q.size(2), dim = q.size(3);
  const int64_t first = window == 0 ? 0 : std::max<int64_t>(0, all_k.size(2) - time - window + 1);
  const auto k = all_k.slice(2, first), v = all_v.slice(2, first);
  const int64_t kv_heads = k.size(1), keys = k.size(2), group = heads / kv_heads;
  std::optional<at::Tensor> mask;  // [group * time, keys], added to the scores; a single query sees all keys
  if (time > 1) mask = mask_of(time, keys, window, q.options()).repeat({group, 1});
  const auto rows = q.reshape({batch, kv_heads, group * time, dim});
  // On a GPU only cuDNN supports masks, at the cost of a plan for every length.
  const auto y = q.is_cuda() ? std::get<0>(at::_scaled_dot_product_attention_math(rows, k, v, mask))
                             : at::scaled_dot_product_attention(rows, k, v, mask);
  return y.reshape({batch, heads, time, dim});
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, OpsPath path, int64_t window) {
  RECORD_USER_SCOPE("causal_attention");
  const bool continued = k.size(2) > q.size(2);
  if (window >= k.size(2)) window = 0;
  if (window > 0) {
    if (path == OpsPath::fast && flash_covers(q, k, v)) return windowed_flash(q, k, v, window);
    if (continued) return attend_last_positions(q, k, v, window);
    if (path == OpsPath::fast) {
      if (auto y = cpu::causal_attention(q, k, v, window, /*tiles=*/false); y.defined()) return y;
    }
    const auto mask = mask_of(q.size(2), k.size(2), window, q.options());
    return at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0.0, /*is_causal=*/false, /*scale=*/std::nullopt,
                                            /*enable_gqa=*/q.size(1) != k.size(1));
  }
  if (path == OpsPath::fast && (continued || !fast::needs_gradient(q, k, v)) && flash_covers(q, k, v)) return flash(q, k, v);
  if (continued) return attend_last_positions(q, k, v, /*window=*/0);
  if (path == OpsPath::fast) {
    if (auto y = cpu::causal_attention(q, k, v); y.defined()) return y;
  }
  return at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true,
                                          /*scale=*/std::nullopt, /*enable_gqa=*/q.size(1) != k.size(1));
}

const char* attention_backend(int64_t heads, int64_t kv_heads, int64_t time, int64_t dim, const at::TensorOptions& options,
                              OpsPath path, int64_t window) {
  const auto q = at::empty({1, heads, time, dim}, options), k = at::empty({1, kv_heads, time, dim}, options);
  if (path == OpsPath::fast && cpu::covers_attention(q, k, k)) return "own";
  std::optional<at::Tensor> mask;
  if (window > 0 && window < time) {
    if (path == OpsPath::fast && flash_covers(q, k, k)) return "flash";
    mask = mask_of(time, time, window, options);
  }
  const auto choice = at::_fused_sdp_choice(q.requires_grad_(), k, k, mask, /*dropout_p=*/0.0, /*is_causal=*/!mask,
                                            /*scale=*/std::nullopt, /*enable_gqa=*/heads != kv_heads);
  switch (static_cast<at::SDPBackend>(choice)) {
    case at::SDPBackend::math:
      return "math";
    case at::SDPBackend::flash_attention:
      return "flash";
    case at::SDPBackend::efficient_attention:
      return "efficient";
    case at::SDPBackend::cudnn_attention:
      return "cudnn";
    default:
      return "none";
  }
}

}  // namespace pgolf::ops
