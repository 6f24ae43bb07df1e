#include "pgolf/config/run_config.h"

#include <cmath>

namespace pgolf {

RopeSpec ModelConfig::rope_of(int layer) const {
  return {head_dim(), rope_dims.of_layer(layer, head_dim()), rope};
}

RopeSpec ModelConfig::widest_rope() const {
  return {head_dim(), rope_dims.max(head_dim()), rope};
}

double ModelConfig::norm_factor(int layer) const {
  return ln_scale ? 1 / std::sqrt(layer + 1.0) : 1;
}

int64_t ModelConfig::skip_count() const {
  return unet_skips ? full_order().skips() : 0;
}

}  // namespace pgolf
