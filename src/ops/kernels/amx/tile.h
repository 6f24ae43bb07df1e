// Building blocks for kernels on Intel's AMX tiles (bfloat16 products, float32 sums). Included only by files that
// src/CMakeLists.txt compiles with AMX and AVX-512 BF16; like kernels.cpp they keep everything in an anonymous namespace
// and call nothing from the standard library.
//
// A tile holds 16 rows of 64 bytes. One product step is C[16 x 16 float] += A[16 x 32 bf16] * B, where B is stored as 16
// rows of pairs: row i holds (b[2i][0], b[2i+1][0], b[2i][1], b[2i+1][1], ...), 32 deep and 16 columns wide.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "../kernels.h"

namespace pgolf::ops {
namespace {

#define PGOLF_AMX_INLINE inline __attribute__((always_inline))

constexpr int64_t kTileRows = 16, kTileDepth = 32;  ///< depth: bfloat16 values along the sum in one step

/// Configures all eight tiles as 16 rows of 64 bytes while it lives. Tile state belongs to the thread.
class TileScope {
 public:
  TileScope() {
    alignas(64) uint8_t config[64] = {};
    config[0] = 1;  // palette
    for (int tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = 64;  // bytes per row
      config[48 + tile] = 16;      // rows
    }
    _tile_loadconfig(config);
  }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

/// Call between the loads of a step and its products, for the operands of the next step: they come from the second-level cache,
/// and the hardware prefetcher misses them. The instructions also keep tile loads and products apart, which gains more
/// where another thread works on the same core than it costs where none does.
PGOLF_AMX_INLINE void prefetch_tile(const Bf16* tile) {
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row) _mm_prefetch(tile + row * kTileDepth, _MM_HINT_T0);
}

/// 32 floats rounded to nearest even: low's 16, then high's.
PGOLF_AMX_INLINE __m512i to_bf16(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

PGOLF_AMX_INLINE __m512 from_bf16(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/// The first `count` of 16 or 32 lanes; count may be negative or too large.
PGOLF_AMX_INLINE __mmask16 first_of_16(int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(~0) : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}
PGOLF_AMX_INLINE __mmask32 first_of_32(int64_t count) {
  return count >= 32 ? ~__mmask32{0} : count <= 0 ? 0 : (__mmask32{1} << count) - 1;
}

/// 32 values; those from `count` on are zero when loaded, and not stored.
struct Floats {
  __m512 low, high;
};
PGOLF_AMX_INLINE Floats floats_of(__m512i bits) {
  return {from_bf16(_mm512_castsi512_si256(bits)), from_bf16(_mm512_extracti64x4_epi64(bits, 1))};
}
PGOLF_AMX_INLINE Floats load_floats(const Bf16* from, int64_t count) {
  return floats_of(_mm512_maskz_loadu_epi16(first_of_32(count), from));
}
PGOLF_AMX_INLINE Floats load_floats(const float* from, int64_t count) {
  return {_mm512_maskz_loadu_ps(first_of_16(count), from), _mm512_maskz_loadu_ps(first_of_16(count - 16), from + 16)};
}
PGOLF_AMX_INLINE void store_floats(Bf16* to, int64_t count, Floats x) {
  _mm512_mask_storeu_epi16(to, first_of_32(count), to_bf16(x.low, x.high));
}
PGOLF_AMX_INLINE void store_floats(float* to, int64_t count, Floats x) {
  _mm512_mask_storeu_ps(to, first_of_16(count), x.low);
  _mm512_mask_storeu_ps(to + 16, first_of_16(count - 16), x.high);
}

/// Rows 2i and 2i+1 of 16 floats each -> one row of bfloat16 pairs (the B form above).
PGOLF_AMX_INLINE __m512i to_bf16_pairs(__m512 even, __m512 odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
                                         19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, to_bf16(even, odd));
}

/// Two rows of 32 bfloat16 -> pairs of columns 0-15 and of columns 16-31.
PGOLF_AMX_INLINE void interleave_rows(__m512i even, __m512i odd, __m512i* low, __m512i* high) {
  const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4,
                                         35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  *low = _mm512_permutex2var_epi16(even, first, odd);
  *high = _mm512_permutex2var_epi16(even, second, odd);
}

/// Transposes 16 rows of 16 32-bit values in place. Of pairs of bfloat16 it makes the B form of the transposed matrix.
PGOLF_AMX_INLINE void transpose_16x16(__m512i row[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(row[2 * i], row[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(row[2 * i], row[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    row[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    row[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    row[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    row[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(row[i], row[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(row[i], row[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(row[8 + i], row[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(row[8 + i], row[12 + i], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    row[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    row[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    row[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    row[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

}  // namespace
}  // namespace pgolf::ops
