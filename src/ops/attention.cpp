#include "pgolf/ops/attention.h"

#include <torch/types.h>

namespace pgolf::ops {

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, OpsPath) {
  return at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true,
                                          /*scale=*/std::nullopt, /*enable_gqa=*/q.size(1) != k.size(1));
}

}  // namespace pgolf::ops
