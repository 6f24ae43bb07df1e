// How the kernels divide rows among threads, and sums among threads.
#pragma once

#include "launch.cuh"
#include "row_math.h"

namespace pgolf::ops::cuda {

constexpr int kWarp = 32;

/// Whether all pointers lie on 16-byte boundaries; null does.
template <class... Pointers>
bool on_boundaries(Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

template <class Integer>
constexpr Integer ceil_div(Integer a, Integer b) {
  return (a + b - 1) / b;
}

/// The sum of `value` over groups of `lanes` neighboring threads (a power of two up to 32), given to all of them. Every thread
/// of the warp must take part.
__device__ inline float sum_of_lanes(float value, int lanes) {
  for (int step = lanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}
__device__ inline float max_of_lanes(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, step);
    value = other > value ? other : value;
  }
  return value;
}

/// Threads with the same threadIdx.y: a team. blockDim.x is a multiple of 32. Every thread of the block must take part in every
/// sum, in the same order.
class Team {
 public:
  /// `value` summed over the team, given to all of it.
  __device__ float sum(float value) {
    const int warps = blockDim.x / kWarp;
    value = sum_of_lanes(value, kWarp);
    if (warps == 1) return value;
    float* const sums = next() + threadIdx.y * warps;
    if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < warps; ++warp) value += sums[warp];
    return value;
  }
  __device__ float max(float value) {
    const int warps = blockDim.x / kWarp;
    value = max_of_lanes(value);
    if (warps == 1) return value;
    float* const values = next() + threadIdx.y * warps;
    if (threadIdx.x % kWarp == 0) values[threadIdx.x / kWarp] = value;
    __syncthreads();
    for (int warp = 0; warp < warps; ++warp) value = values[warp] > value ? values[warp] : value;
    return value;
  }

 private:
  /// Alternates between two buffers: a warp may still read the previous result while another one writes the next.
  __device__ float* next() {
    __shared__ float buffers[2][kMaxThreads / kWarp];
    buffer_ = 1 - buffer_;
    return buffers[buffer_];
  }
  int buffer_ = 0;
};

}  // namespace pgolf::ops::cuda
