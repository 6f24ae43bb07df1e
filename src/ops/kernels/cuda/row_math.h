// What one thread of a CUDA kernel computes: 16 bytes of a row as floats, and the formulas of ../kernels.h on them.
// Compiles for the device and for the host, so that it can be tested on a machine without a GPU.
#pragma once

#include <math.h>
#include <string.h>

#include "../kernels.h"

#ifdef __CUDACC__
#define PGOLF_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define PGOLF_HOST_DEVICE inline
#endif

namespace pgolf::ops::cuda {

constexpr float kEps = 1.1920929e-07f;

/// Elements T in 16 bytes.
template <class T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));

/// kPack consecutive elements of a row, in float32. Elements beyond the row's end are zero and are not stored.
template <class T>
struct Pack {
  float elements[kPack<T>];
};

template <class To, class From>
PGOLF_HOST_DEVICE To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  memcpy(&result, &value, sizeof(result));
  return result;
}

PGOLF_HOST_DEVICE float to_float(float value) {
  return value;
}
PGOLF_HOST_DEVICE float to_float(Bf16 value) {
  return bits_of<float>(static_cast<uint32_t>(value.bits) << 16);
}

/// Two bfloat16, the low half of the word first in memory, rounded to nearest, ties to even.
PGOLF_HOST_DEVICE uint32_t bfloat16_pair(float low, float high) {
#ifdef __CUDA_ARCH__
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  const auto nearest = [](float value) {
    const uint32_t bits = bits_of<uint32_t>(value);
    return value != value ? 0x7fffu : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  };
  return nearest(low) | nearest(high) << 16;
#endif
}

template <class T>
PGOLF_HOST_DEVICE T rounded(float value) {
  if constexpr (sizeof(T) == 4) {
    return value;
  } else {
    return T{static_cast<uint16_t>(bfloat16_pair(value, 0.0f))};
  }
}

/// A pack after a round trip through memory.
template <class T>
PGOLF_HOST_DEVICE Pack<T> as_stored(const Pack<T>& pack) {
  Pack<T> result;
  for (int i = 0; i < kPack<T>; ++i) result.elements[i] = to_float(rounded<T>(pack.elements[i]));
  return result;
}

/// 16 bytes of memory of any type, which the device reads and writes at once.
struct __attribute__((may_alias, aligned(16))) Bytes {
  uint32_t words[4];
};

/// Elements first .. first+kPack-1 of a row of `width`. aligned: row + first lies on a 16-byte boundary.
template <class T>
PGOLF_HOST_DEVICE Pack<T> load_pack(const T* row, int64_t first, int64_t width, bool aligned) {
  Pack<T> pack;
  if (aligned && first + kPack<T> <= width) {
    const Bytes bytes = *reinterpret_cast<const Bytes*>(row + first);
    for (int i = 0; i < kPack<T>; ++i) {
      if constexpr (sizeof(T) == 4) {
        pack.elements[i] = bits_of<float>(bytes.words[i]);
      } else {
        pack.elements[i] = bits_of<float>(i % 2 == 0 ? bytes.words[i / 2] << 16 : bytes.words[i / 2] & 0xffff0000u);
      }
    }
  } else {
    for (int i = 0; i < kPack<T>; ++i) pack.elements[i] = first + i < width ? to_float(row[first + i]) : 0.0f;
  }
  return pack;
}

template <class T>
PGOLF_HOST_DEVICE void store_pack(T* row, int64_t first, int64_t width, bool aligned, const Pack<T>& pack) {
  if (aligned && first + kPack<T> <= width) {
    Bytes bytes;
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(T) == 4) {
        bytes.words[i] = bits_of<uint32_t>(pack.elements[i]);
      } else {
        bytes.words[i] = bfloat16_pair(pack.elements[2 * i], pack.elements[2 * i + 1]);
      }
    }
    *reinterpret_cast<Bytes*>(row + first) = bytes;
  } else {
    for (int i = 0; i < kPack<T>; ++i) {
      if (first + i < width) row[first + i] = rounded<T>(pack.elements[i]);
    }
  }
}

/// Values (float32 whatever T is) for the elements of a pack that begins at element `first`; aligned: as for load_pack.
template <class T>
PGOLF_HOST_DEVICE Pack<T> load_floats(const float* values, int64_t first, int64_t width, bool aligned) {
  Pack<T> pack;
  for (int quarter = 0; quarter < kPack<T>; quarter += 4) {
    const Pack<float> four = load_pack(values, first + quarter, width, aligned);
    for (int i = 0; i < 4; ++i) pack.elements[quarter + i] = four.elements[i];
  }
  return pack;
}

/// f(i) for each element i.
template <class T, class F>
PGOLF_HOST_DEVICE Pack<T> pack_of(const F& f) {
  Pack<T> pack;
  for (int i = 0; i < kPack<T>; ++i) pack.elements[i] = f(i);
  return pack;
}

template <class T>
PGOLF_HOST_DEVICE float dot(const Pack<T>& a, const Pack<T>& b) {
  float sum = 0;
  for (int i = 0; i < kPack<T>; ++i) sum += a.elements[i] * b.elements[i];
  return sum;
}

template <class T>
PGOLF_HOST_DEVICE Pack<T> scaled(const Pack<T>& pack, float factor) {
  return pack_of<T>([&](int i) { return factor * pack.elements[i]; });
}

PGOLF_HOST_DEVICE float reciprocal_rms(float square_sum, int64_t width) {
  return 1 / sqrtf(square_sum / static_cast<float>(width) + kEps);
}

/// a x + b y; elementwise with packs for a and b.
template <class T>
PGOLF_HOST_DEVICE Pack<T> combined(const Pack<T>& a, const Pack<T>& x, const Pack<T>& b, const Pack<T>& y) {
  return pack_of<T>([&](int i) { return a.elements[i] * x.elements[i] + b.elements[i] * y.elements[i]; });
}
template <class T>
PGOLF_HOST_DEVICE Pack<T> combined(float a, const Pack<T>& x, float b, const Pack<T>& y) {
  return pack_of<T>([&](int i) { return a * x.elements[i] + b * y.elements[i]; });
}

/// The c for which dx = factor r dy - c x is the gradient of x where dy is that of factor * rms_norm(x); r = 1 / rms(x), product
/// = dy . x.
PGOLF_HOST_DEVICE float norm_backward_coefficient(float product, float r, float factor, int64_t width) {
  return product * r * r * (factor * r) / static_cast<float>(width);
}

/// The direction of a value v: n = r v.
struct Direction {
  float r;
  bool unit;  ///< false: r is a constant, since v is shorter than kMinValueLength
};
PGOLF_HOST_DEVICE Direction direction_of(float square_sum) {
  const float length = sqrtf(square_sum);
  const bool unit = !(length < kMinValueLength);  // NaN propagates
  return {1 / (unit ? length : kMinValueLength), unit};
}

/// x without its part along n = r v; along = x . n.
template <class T>
PGOLF_HOST_DEVICE Pack<T> without(const Pack<T>& x, float along, const Pack<T>& v, float r) {
  return combined(1.0f, x, -(along * r), v);
}

/// The gradient of v, of which each head of a group that excludes it used n. sums = sum(c y + p g), product = sum(c p) over the
/// group, with a head's incoming gradient g, p = y . n and c = g . n: -sums is the gradient of n, and -2 product its part along
/// n.
template <class T>
PGOLF_HOST_DEVICE Pack<T> value_gradient(const Pack<T>& sums, float product, const Pack<T>& v, Direction n) {
  return combined(n.unit ? n.r * 2 * product * n.r : 0.0f, v, -n.r, sums);
}

/// cos and sin of the angles of one time, `half` of each.
struct Angles {
  const float *cos, *sin;
  int64_t half;
  bool interleaved;
};

/// Elements first .. of the rotated row, `own` before the rotation; direction 1 rotates, -1 rotates back. aligned: row, cos and
/// sin lie on 16-byte boundaries. Each element's partner is read from memory again, where the row's other threads have just read
/// it.
template <class T>
PGOLF_HOST_DEVICE Pack<T> rotated(const Pack<T>& own, const T* row, int64_t first, int64_t width, bool aligned, Angles angles,
                                  float direction) {
  const int64_t half = angles.half;
  if (first >= 2 * half) return own;
  if (angles.interleaved) {  // the partners are in the same pack
    return pack_of<T>([&](int i) {
      const int64_t element = first + i;
      if (element >= 2 * half) return own.elements[i];
      const float sine = (i % 2 == 0 ? direction : -direction) * angles.sin[element / 2];
      return own.elements[i] * angles.cos[element / 2] + own.elements[i ^ 1] * sine;
    });
  }
  if (half % kPack<T> == 0) {  // the partners are a pack, too
    const bool low = first < half;
    const int64_t angle = low ? first : first - half;
    const Pack<T> other = load_pack(row, low ? first + half : first - half, width, aligned);
    const Pack<T> cos = load_floats<T>(angles.cos, angle, half, aligned);
    const Pack<T> sin = load_floats<T>(angles.sin, angle, half, aligned);
    return combined(own, cos, other, scaled(sin, low ? direction : -direction));
  }
  return pack_of<T>([&](int i) {
    const int64_t element = first + i;
    if (element >= 2 * half) return own.elements[i];
    const bool low = element < half;
    const int64_t angle = low ? element : element - half;
    const float other = to_float(row[low ? element + half : angle]);
    return own.elements[i] * angles.cos[angle] + (low ? direction : -direction) * other * angles.sin[angle];
  });
}

/// x, times `below` where it is negative. NaN propagates.
PGOLF_HOST_DEVICE float leaky(float x, float below) {
  return x < 0 ? below * x : x;
}
PGOLF_HOST_DEVICE float leaky_squared(float x, float slope_squared) {
  return x * leaky(x, slope_squared);
}
PGOLF_HOST_DEVICE float leaky_squared_backward(float dy, float x, float slope_squared) {
  return 2 * leaky(x, slope_squared) * dy;
}

PGOLF_HOST_DEVICE float sigmoid(float x) {
  const float e = expf(-fabsf(x));
  return (x > 0 ? 1.0f : e) / (1 + e);
}
PGOLF_HOST_DEVICE float swiglu(float gate, float up) {
  return gate * sigmoid(gate) * up;
}
struct SwigluGradients {
  float gate, up;
};
PGOLF_HOST_DEVICE SwigluGradients swiglu_backward(float dy, float gate, float up) {
  const float s = sigmoid(gate);
  return {dy * up * s * (1 + gate * (1 - s)), dy * gate * s};
}

/// tanh and its derivative without cancellation: with m = expm1(2|x|), tanh|x| = m / (m + 2), 1 - tanh|x| = 2 / (m + 2).
struct Tanh {
  float value, derivative;
};
PGOLF_HOST_DEVICE Tanh tanh_of(float x) {
  const float magnitude = fabsf(x);
  const float m = expm1f(magnitude > 20.0f ? 40.0f : 2 * magnitude);
  const float inverse = 1 / (m + 2);
  const float value = m * inverse;
  return {copysignf(value, x), 2 * inverse * (1 + value)};
}

}  // namespace pgolf::ops::cuda
