// Limits of the CUDA kernels, and how many partial sums they write. Also included by builds without CUDA.
#pragma once

#include <cstdint>

namespace pgolf::ops::cuda {

/// Maximum row sizes. Rows: 16 bytes per thread, as many threads as one block has registers for. Softmax rows: 8 times 16 bytes
/// per thread, 1024 threads. A head is handled by one warp.
constexpr int64_t kMaxRowBytes = 16 * 512;
constexpr int64_t kMaxLogitBytes = 8 * 16 * 1024;
constexpr int64_t kMaxHeadBytes = 16 * 32;

/// Partial sums of `width` numbers over `rows` rows: enough to fill a large GPU, few enough that reading them back costs nothing.
constexpr int64_t partial_sums(int64_t rows, int64_t width) {
  const int64_t limit = width <= 128 ? 4096 : 1024;
  return rows < limit ? rows : limit;
}

}  // namespace pgolf::ops::cuda
