#include "pgolf/config/run_config.h"

namespace pgolf {

RopeSpec ModelConfig::rope_of(int layer) const {
  RopeSpec spec = rope;
  if (!rope_layers.empty()) spec.rope_dims = rope_layers.at(static_cast<size_t>(layer));
  return spec;
}

int64_t ModelConfig::skip_count() const {
  return unet_skips ? num_layers / 2 : 0;
}

}  // namespace pgolf
