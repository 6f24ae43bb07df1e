#include "pgolf/config/run_config.h"

namespace pgolf {

RopeSpec ModelConfig::rope_of(int layer) const {
  return {head_dim(), rope_dims.of_layer(layer, head_dim()), rope};
}

RopeSpec ModelConfig::widest_rope() const {
  return {head_dim(), rope_dims.max(head_dim()), rope};
}

int64_t ModelConfig::skip_count() const {
  return unet_skips ? num_layers / 2 : 0;
}

}  // namespace pgolf
