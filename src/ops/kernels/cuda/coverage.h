// What the CUDA kernels cover, and how many partial sums they leave: known to builds without CUDA as well.
#pragma once

#include <cstdint>

namespace pgolf::ops::cuda {

/// The largest rows: 16 bytes a thread, as many threads as find their registers in one block. Softmax rows: 8 times 16 bytes a
/// thread, 1024 threads. A head belongs to one warp.
constexpr int64_t kMaxRowBytes = 16 * 512;
constexpr int64_t kMaxLogitBytes = 8 * 16 * 1024;
constexpr int64_t kMaxHeadBytes = 16 * 32;

/// Partial sums of `width` numbers over `rows` rows: enough to fill a large GPU, little enough to be read again at no cost.
constexpr int64_t partial_sums(int64_t rows, int64_t width) {
  const int64_t most = width <= 128 ? 4096 : 1024;
  return rows < most ? rows : most;
}

}  // namespace pgolf::ops::cuda
