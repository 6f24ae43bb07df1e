#include "pgolf/config/run_config.h"

namespace pgolf {

RopeSpec ModelConfig::rope_of(int layer) const {
  return {head_dim(), rope_dims.of_layer(layer, head_dim()), rope};
}

RopeSpec ModelConfig::widest_rope() const {
  return {head_dim(), rope_dims.most(head_dim()), rope};
}

int64_t ModelConfig::skip_count() const {
  return unet_skips ? num_layers / 2 : 0;
}

int64_t ModelConfig::parameter_count() const {
  const int64_t dim = model_dim, kv_dim = int64_t{num_kv_heads} * head_dim(), hidden = dim * mlp_mult;
  const int64_t embedding = vocab_size * dim;
  const int64_t attention = dim * dim + 2 * dim * kv_dim + dim * dim + num_heads;  // q, k and v, proj, q_gain
  const int64_t mlp = mlp_matrices() * dim * hidden;
  const int64_t norms = norm_weights ? (parallel_block ? dim : 2 * dim) : 0;
  const int64_t block = attention + mlp + norms + dim + dim + (resid_mix ? 2 * dim : 0);  // attn_scale, mlp_scale, resid_mix
  return embedding * (tie_embeddings ? 1 : 2) + num_layers * block + skip_count() * dim + (norm_weights ? dim : 0);
}

}  // namespace pgolf
