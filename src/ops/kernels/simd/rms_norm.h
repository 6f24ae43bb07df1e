// rms_norm.
#pragma once

#include "lanes.h"

namespace pgolf::ops {
namespace {

constexpr float kEps = 1.1920929e-07f;

/// In four independent sums, to hide the latency of additions.
template <class T>
PGOLF_INLINE float dot(const T* x, const T* y, int64_t count) {
  Floats sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int64_t j = 0; j < 4; ++j) sums[j] += load(x + i + j * kLanes) * load(y + i + j * kLanes);
  }
  for_lanes(count - i,
            [&](int64_t j, auto part) PGOLF_INLINE_LAMBDA { sums[0] += load(x + i + j, part) * load(y + i + j, part); });
  return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

PGOLF_INLINE float reciprocal_rms(float square_sum, int64_t count) {
  return 1 / __builtin_sqrtf(square_sum / static_cast<float>(count) + kEps);
}

template <class T>
PGOLF_INLINE float rms_norm_row(const T* x, T* y, int64_t width) {
  const float r = reciprocal_rms(dot(x, x, width), width);
  for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { store(y + i, load(x + i, part) * r, part); });
  return r;
}

template <class T>
void rms_norm(const T* x, T* y, float* rstd, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    const float r = rms_norm_row(x, y, width);
    if (rstd != nullptr) rstd[row] = r;
  }
}

/// The c for which dx = r dy - c x is the gradient of one normalized row with r = 1 / rms(x).
template <class T>
PGOLF_INLINE float norm_backward_coefficient(const T* dy, const T* x, float r, int64_t width) {
  return dot(dy, x, width) * r * r * r / static_cast<float>(width);
}

template <class T>
void rms_norm_backward(const T* dy, const T* x, const float* rstd, T* dx, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, dy += width, x += width, dx += width) {
    const float r = rstd[row], along = norm_backward_coefficient(dy, x, r, width);
    for_lanes(width, [&](int64_t i, auto part)
                         PGOLF_INLINE_LAMBDA { store(dx + i, r * load(dy + i, part) - along * load(x + i, part), part); });
  }
}

}  // namespace
}  // namespace pgolf::ops
