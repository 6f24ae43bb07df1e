// The order in which the blocks of a model run: a U-Net over its layers, some of which may run several times (depth recurrence).
#pragma once

#include <cstdint>
#include <vector>

namespace pgolf {

/// Layers in running order; a looped layer appears once per pass. The encoder's outputs are pushed, and each decoder step takes
/// the one pushed last, as long as there is one: the skip connections.
struct BlockOrder {
  std::vector<int> encoder, decoder;

  int64_t passes() const { return static_cast<int64_t>(encoder.size() + decoder.size()); }
  int64_t skips() const { return static_cast<int64_t>(encoder.size()); }
  int64_t passes_of(int layer) const;
};

/// 0 .. loop_start - 1, then extra_passes + 1 times loop_start .. loop_end, then the remaining layers; half of the passes,
/// rounded down, are the encoder's. Without extra passes the loop has no meaning; with them 0 <= loop_start <= loop_end <
/// num_layers.
BlockOrder block_order(int num_layers, int loop_start, int loop_end, int extra_passes);

}  // namespace pgolf
