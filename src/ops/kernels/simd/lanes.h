// Vectors of float32 lanes in the compiler's own vector types, as wide as the instruction set that this is compiled for.
// Everything is in an anonymous namespace and nothing from the standard library is called: a shared inline function compiled
// here with wide instructions could otherwise be the copy that the linker keeps for every processor.
#pragma once

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "../kernels.h"

namespace pgolf::ops {
namespace {

#define PGOLF_INLINE inline __attribute__((always_inline))
#define PGOLF_INLINE_LAMBDA __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX2__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif

using Floats = float __attribute__((vector_size(kLanes * sizeof(float))));
using Ints = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));
using Bits = uint32_t __attribute__((vector_size(kLanes * sizeof(uint32_t))));
using Halves = uint16_t __attribute__((vector_size(kLanes * sizeof(uint16_t))));

PGOLF_INLINE int64_t min(int64_t a, int64_t b) {
  return a < b ? a : b;
}
PGOLF_INLINE int64_t max(int64_t a, int64_t b) {
  return a > b ? a : b;
}

PGOLF_INLINE Floats all(float value) {
  return value - Floats{};
}

PGOLF_INLINE Floats load(const float* from) {
  Floats result;
  __builtin_memcpy(&result, from, sizeof(result));
  return result;
}
PGOLF_INLINE void store(float* to, Floats x) {
  __builtin_memcpy(to, &x, sizeof(x));
}

PGOLF_INLINE Floats from_bf16(Halves bits) {
  return (Floats)(__builtin_convertvector(bits, Bits) << 16);
}
/// Rounded to nearest even. AVX-512's own conversion takes numbers below 2^-126 as zeros.
PGOLF_INLINE Halves to_bf16(Floats x) {
#ifdef __AVX512BF16__
  return (Halves)_mm512_cvtneps_pbh((__m512)x);
#else
  const Bits bits = (Bits)x, nearest_even = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return __builtin_convertvector(x == x ? nearest_even : Bits{} + 0x7fc0u, Halves);
#endif
}

PGOLF_INLINE Floats load(const Bf16* from) {
  Halves bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return from_bf16(bits);
}
PGOLF_INLINE void store(Bf16* to, Floats x) {
  const Halves bits = to_bf16(x);
  __builtin_memcpy(to, &bits, sizeof(bits));
}

/// 0, 1, 2, ...
PGOLF_INLINE Ints lane_numbers() {
  Ints lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane;
}

/// Which lanes of a vector are active: all of them, or the first `count`, more than none and less than all.
struct All {};
struct First {
  int64_t count;
};

template <class T>
PGOLF_INLINE Floats load(const T* from, All) {
  return load(from);
}
template <class T>
PGOLF_INLINE void store(T* to, Floats x, All) {
  store(to, x);
}
PGOLF_INLINE Floats keep(Floats x, float, All) {
  return x;
}

#ifdef __AVX512F__
PGOLF_INLINE __mmask16 mask_of(First part) {
  return static_cast<__mmask16>((1u << part.count) - 1);
}
PGOLF_INLINE Floats load(const float* from, First part) {
  return (Floats)_mm512_maskz_loadu_ps(mask_of(part), from);
}
PGOLF_INLINE Floats load(const Bf16* from, First part) {
  return from_bf16((Halves)_mm256_maskz_loadu_epi16(mask_of(part), from));
}
PGOLF_INLINE void store(float* to, Floats x, First part) {
  _mm512_mask_storeu_ps(to, mask_of(part), (__m512)x);
}
PGOLF_INLINE void store(Bf16* to, Floats x, First part) {
  _mm256_mask_storeu_epi16(to, mask_of(part), (__m256i)to_bf16(x));
}
#else
template <class T>
PGOLF_INLINE Floats load(const T* from, First part) {
  T whole[kLanes] = {};
  for (int64_t i = 0; i < part.count; ++i) whole[i] = from[i];
  return load(whole);
}
template <class T>
PGOLF_INLINE void store(T* to, Floats x, First part) {
  T whole[kLanes];
  store(whole, x);
  for (int64_t i = 0; i < part.count; ++i) to[i] = whole[i];
}
#endif
/// x with `other` in the inactive lanes.
PGOLF_INLINE Floats keep(Floats x, float other, First part) {
  return lane_numbers() < static_cast<int32_t>(part.count) ? x : all(other);
}

/// Each number in two lanes: those from `from` on, half as many as there are active lanes.
PGOLF_INLINE Floats load_twice(const float* from, First part) {
  return __builtin_shuffle(load(from, First{part.count / 2}), lane_numbers() / 2);
}
PGOLF_INLINE Floats load_twice(const float* from, All) {
  return load_twice(from, First{kLanes});
}

/// f(first, part) over 0 .. count-1, a vector at a time.
template <class F>
PGOLF_INLINE void for_lanes(int64_t count, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) f(i, All{});
  if (i < count) f(i, First{count - i});
}

/// Folds the lanes of a vector to one number.
template <class F>
PGOLF_INLINE float fold(Floats x, const F& f) {
  for (int32_t distance = kLanes / 2; distance > 0; distance /= 2) x = f(x, __builtin_shuffle(x, lane_numbers() ^ distance));
  return x[0];
}
PGOLF_INLINE float sum_of(Floats x) {
  return fold(x, [](Floats a, Floats b) PGOLF_INLINE_LAMBDA { return a + b; });
}
PGOLF_INLINE float max_of(Floats x) {
  return fold(x, [](Floats a, Floats b) PGOLF_INLINE_LAMBDA { return a > b ? a : b; });
}

}  // namespace
}  // namespace pgolf::ops
