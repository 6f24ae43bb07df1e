// leaky_squared, swiglu and scale.
#pragma once

#include "exp.h"

namespace pgolf::ops {
namespace {

/// x, times `below` where it is negative. NaN propagates.
PGOLF_INLINE Floats leaky(Floats x, Floats below) {
  return x < 0.0f ? below * x : x;
}

template <class T>
void leaky_squared(const T* x, float slope_squared, T* y, int64_t count) {
  const Floats below = all(slope_squared);
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    const Floats value = load(x + i, part);
    store(y + i, value * leaky(value, below), part);
  });
}

template <class T>
void leaky_squared_backward(const T* dy, const T* x, float slope_squared, T* dx, int64_t count) {
  const Floats below = all(slope_squared);
  for_lanes(count, [&](int64_t i, auto part)
                       PGOLF_INLINE_LAMBDA { store(dx + i, 2 * leaky(load(x + i, part), below) * load(dy + i, part), part); });
}

/// 1 / (1 + e^-x); NaN propagates.
PGOLF_INLINE Floats sigmoid(Floats x) {
  const Floats e = exp_of_nonpositive(x > 0 ? -x : x), inverse = 1 / (1 + e);
  return x > 0 ? inverse : e * inverse;
}

template <class T>
void swiglu(const T* gate, const T* up, T* y, int64_t count) {
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    const Floats g = load(gate + i, part);
    store(y + i, g * sigmoid(g) * load(up + i, part), part);
  });
}

template <class T>
void swiglu_backward(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t count) {
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    const Floats g = load(gate + i, part), d = load(dy + i, part), s = sigmoid(g);
    store(dup + i, d * g * s, part);
    store(dgate + i, d * load(up + i, part) * s * (1 + g * (1 - s)), part);
  });
}

template <class T>
void scale(T* x, const float* factor, int64_t count) {
  const float by = *factor;
  if (by == 1.0f) return;
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { store(x + i, by * load(x + i, part), part); });
}

}  // namespace
}  // namespace pgolf::ops
