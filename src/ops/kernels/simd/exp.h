// e^x in vectors.
#pragma once

#include "lanes.h"

namespace pgolf::ops {
namespace {

/// e^x = scale * (1 + fraction), with scale a power of two and |log(1 + fraction)| <= log(2) / 2; -87.3 <= x <= 88.
/// The Taylor series to r^7 leaves less than 1e-8. Measured over the whole range: exp_of_nonpositive
/// is within 1.1 units in the last place.
struct Exponential {
  Floats scale, fraction;
};
PGOLF_INLINE Exponential exponential(Floats x) {
  constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits
  const Floats shifted = x * 1.44269504f + round;
  const Floats n = shifted - round;
  const Floats r = (x - n * 0.693145751953125f) - n * 1.42860682e-06f;  // log(2) in two parts, the first one short
  Floats p = all(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r;
  return {(Floats)(((Bits)shifted << 23) + 0x3f800000u), p};
}

/// Comparisons are written so that NaN propagates.
PGOLF_INLINE Floats exp_of_nonpositive(Floats x) {
  const Exponential e = exponential(x < -87.3f ? all(-87.3f) : x);
  return e.scale + e.scale * e.fraction;
}

}  // namespace
}  // namespace pgolf::ops
