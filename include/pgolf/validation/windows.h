// Windows of tokens as tensors.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <span>

namespace pgolf {

struct Windows {
  at::Tensor inputs, targets;  ///< [count, seq_len] int64
};

/// Windows first .. first + count - 1 of those that tokens have, one after the other, with seq_len inputs each.
inline Windows read_windows(std::span<const uint16_t> tokens, int64_t seq_len, int64_t first, int64_t count,
                            const at::Device& device) {
  const int64_t targets = count * seq_len;
  const auto used = tokens.subspan(static_cast<size_t>(first * seq_len), static_cast<size_t>(targets + 1));
  auto ids = torch::empty({targets + 1}, torch::kLong);
  std::copy(used.begin(), used.end(), ids.data_ptr<int64_t>());
  ids = ids.to(device);
  return {ids.narrow(0, 0, targets).view({count, seq_len}), ids.narrow(0, 1, targets).view({count, seq_len})};
}

}  // namespace pgolf
