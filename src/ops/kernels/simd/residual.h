// residual_mix and scaled_add.
#pragma once

#include "rms_norm.h"

namespace pgolf::ops {
namespace {

/// One row of the gradient of an op's first output: the incoming one, plus the one through the second output.
template <class T, bool kNormed>
struct IncomingGradient {
  PGOLF_INLINE IncomingGradient(const T* dy_row, const NormedOutput<T>& normed, int64_t row, int64_t width) : dy(dy_row) {
    if constexpr (kNormed) {
      const int64_t at = row * width;
      through = norm_gradient(normed.dnormed + at, normed.y + at, normed.rstd[row], normed.factor, width);
    }
  }
  template <class Part>
  PGOLF_INLINE Floats at(int64_t i, Part part) const {
    if constexpr (kNormed) return load(dy + i, part) + through.at(i, part);
    return load(dy + i, part);
  }
  const T* dy;
  NormGradient<T> through;
};

/// y = f(i, part) for each row, and of each row factor * rms_norm unless normed is null.
template <class T, class F>
PGOLF_INLINE void write_rows(T* y, float factor, T* normed, float* rstd, int64_t rows, int64_t width, const F& f) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * width;
    for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { store(y + at + i, f(at, i, part), part); });
    if (normed == nullptr) continue;
    const float r = rms_norm_row(y + at, factor, normed + at, width);
    if (rstd != nullptr) rstd[row] = r;
  }
}

template <class T>
void residual_mix(const T* x, const T* x0, const float* mix, T* y, float factor, T* normed, float* rstd, int64_t rows,
                  int64_t width) {
  const float* const mix0 = mix + width;
  write_rows(y, factor, normed, rstd, rows, width, [&](int64_t at, int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    return load(mix + i, part) * load(x + at + i, part) + load(mix0 + i, part) * load(x0 + at + i, part);
  });
}

template <class T, bool kNormed>
void residual_mix_backward_rows(const T* dy, NormedOutput<T> normed, const T* x, const T* x0, const float* mix, T* dx, T* dx0,
                                float* dmix, int64_t rows, int64_t width) {
  const float* const mix0 = mix + width;
  float* const dmix0 = dmix + width;
  for (int64_t i = 0; i < 2 * width; ++i) dmix[i] = 0;
  for (int64_t row = 0; row < rows; ++row, dy += width, x += width, x0 += width, dx += width, dx0 += width) {
    const IncomingGradient<T, kNormed> gradient(dy, normed, row, width);
    for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats d = gradient.at(i, part);
      store(dmix + i, load(dmix + i, part) + d * load(x + i, part), part);
      store(dmix0 + i, load(dmix0 + i, part) + d * load(x0 + i, part), part);
      store(dx + i, d * load(mix + i, part), part);
      store(dx0 + i, d * load(mix0 + i, part), part);
    });
  }
}

template <class T>
void residual_mix_backward(const T* dy, NormedOutput<T> normed, const T* x, const T* x0, const float* mix, T* dx, T* dx0,
                           float* dmix, int64_t rows, int64_t width) {
  const auto run = normed.dnormed != nullptr ? residual_mix_backward_rows<T, true> : residual_mix_backward_rows<T, false>;
  run(dy, normed, x, x0, mix, dx, dx0, dmix, rows, width);
}

template <class T>
void scaled_add(const T* x, const float* scale, const T* branch, T* y, float factor, T* normed, float* rstd, int64_t rows,
                int64_t width) {
  write_rows(y, factor, normed, rstd, rows, width, [&](int64_t at, int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    return load(x + at + i, part) + load(scale + i, part) * load(branch + at + i, part);
  });
}

template <class T, bool kNormed>
void scaled_add_backward_rows(const T* dy, NormedOutput<T> normed, const float* scale, const T* branch, T* dx, T* dbranch,
                              float* dscale, int64_t rows, int64_t width) {
  for (int64_t i = 0; i < width; ++i) dscale[i] = 0;
  for (int64_t row = 0; row < rows; ++row, dy += width, branch += width, dbranch += width) {
    const IncomingGradient<T, kNormed> gradient(dy, normed, row, width);
    T* const dx_row = kNormed ? dx + row * width : nullptr;
    for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats d = gradient.at(i, part);
      if constexpr (kNormed) store(dx_row + i, d, part);
      store(dscale + i, load(dscale + i, part) + d * load(branch + i, part), part);
      store(dbranch + i, d * load(scale + i, part), part);
    });
  }
}

template <class T>
void scaled_add_backward(const T* dy, NormedOutput<T> normed, const float* scale, const T* branch, T* dx, T* dbranch,
                         float* dscale, int64_t rows, int64_t width) {
  const auto run = normed.dnormed != nullptr ? scaled_add_backward_rows<T, true> : scaled_add_backward_rows<T, false>;
  run(dy, normed, scale, branch, dx, dbranch, dscale, rows, width);
}

}  // namespace
}  // namespace pgolf::ops
