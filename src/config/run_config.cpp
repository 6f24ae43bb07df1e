#include "pgolf/config/run_config.h"

#include <algorithm>

namespace pgolf {

RopeSpec ModelConfig::rope_of(int layer) const {
  RopeSpec spec = rope;
  if (!rope_layers.empty()) spec.rope_dims = rope_layers.at(static_cast<size_t>(layer));
  return spec;
}

int64_t ModelConfig::parameter_count() const {
  const int64_t dim = model_dim, kv_dim = int64_t{num_kv_heads} * head_dim(), hidden = dim * mlp_mult;
  const int64_t embedding = vocab_size * dim;
  const int64_t attention = dim * dim + 2 * dim * kv_dim + dim * dim + num_heads;  // q, k and v, proj, q_gain
  const int64_t mlp = 2 * dim * hidden;                                            // fc, proj
  const int64_t block = attention + mlp + dim + dim + 2 * dim;                     // attn_scale, mlp_scale, resid_mix
  const int64_t encoder_layers = num_layers / 2;
  const int64_t skips = std::min(encoder_layers, num_layers - encoder_layers);
  return embedding * (tie_embeddings ? 1 : 2) + num_layers * block + skips * dim;
}

}  // namespace pgolf
