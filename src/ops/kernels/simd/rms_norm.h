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
PGOLF_INLINE float rms_norm_row(const T* x, float factor, T* y, int64_t width) {
  const float r = reciprocal_rms(dot(x, x, width), width), scale = factor * r;
  for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { store(y + i, load(x + i, part) * scale, part); });
  return r;
}

template <class T>
void rms_norm(const T* x, float factor, T* y, float* rstd, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    const float r = rms_norm_row(x, factor, y, width);
    if (rstd != nullptr) rstd[row] = r;
  }
}

/// One row of the gradient dx = scale dy - along x.
template <class T>
struct NormGradient {
  template <class Part>
  PGOLF_INLINE Floats at(int64_t i, Part part) const {
    return scale * load(dy + i, part) - along * load(x + i, part);
  }
  const T *dy = nullptr, *x = nullptr;
  float scale = 0, along = 0;
};

/// For dy, the gradient of factor * rms_norm(x); r = 1 / rms(x).
template <class T>
PGOLF_INLINE NormGradient<T> norm_gradient(const T* dy, const T* x, float r, float factor, int64_t width) {
  const float scale = factor * r;
  return {dy, x, scale, dot(dy, x, width) * r * r * scale / static_cast<float>(width)};
}

template <class T>
void rms_norm_backward(const T* dy, const T* x, const float* rstd, float factor, T* dx, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, dy += width, x += width, dx += width) {
    const auto gradient = norm_gradient(dy, x, rstd[row], factor, width);
    for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { store(dx + i, gradient.at(i, part), part); });
  }
}

}  // namespace
}  // namespace pgolf::ops
