#include "pgolf/config/block_order.h"

#include <algorithm>

namespace pgolf {

int64_t BlockOrder::passes_of(int layer) const {
  return std::count(encoder.begin(), encoder.end(), layer) + std::count(decoder.begin(), decoder.end(), layer);
}

BlockOrder block_order(int num_layers, int loop_start, int loop_end, int extra_passes) {
  std::vector<int> layers;
  const auto append = [&](int first, int end) {
    for (int layer = first; layer < end; ++layer) layers.push_back(layer);
  };
  if (extra_passes == 0) {
    append(0, num_layers);
  } else {
    append(0, loop_start);
    for (int pass = 0; pass <= extra_passes; ++pass) append(loop_start, loop_end + 1);
    append(loop_end + 1, num_layers);
  }
  const auto half = layers.begin() + static_cast<std::ptrdiff_t>(layers.size() / 2);
  return {{layers.begin(), half}, {half, layers.end()}};
}

}  // namespace pgolf
