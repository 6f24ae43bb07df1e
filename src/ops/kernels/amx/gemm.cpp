#include "gemm.h"

#include "tile.h"

namespace pgolf::ops::amx {
namespace {

// Packed layout, right operand: [panel][depth step][two tiles of 16 columns][16 rows of 32 values]. Left operand:
// [panel][depth step][two tiles of 16 rows][16 rows of 32 values]. A step of a panel is 2 KiB either way.
constexpr int64_t kTile = 16 * 32;
constexpr int64_t kStep = 2 * kTile;

PGOLF_AMX_INLINE __mmask32 first_of_32(int64_t count) {
  return count >= 32 ? ~__mmask32{0} : count <= 0 ? 0 : (__mmask32{1} << count) - 1;
}
PGOLF_AMX_INLINE __mmask16 first_of_16(int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(~0) : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}

/// 32 values as bfloat16, the ones from `count` on zero.
PGOLF_AMX_INLINE __m512i load_32(const Bf16* from, int64_t count) {
  return _mm512_maskz_loadu_epi16(first_of_32(count), from);
}
PGOLF_AMX_INLINE __m512i load_32(const float* from, int64_t count) {
  return to_bf16(_mm512_maskz_loadu_ps(first_of_16(count), from), _mm512_maskz_loadu_ps(first_of_16(count - 16), from + 16));
}

/// Steps of depth outside, panels inside: so every row is read on from where it was left.
template <class T>
void pack_right(const T* b, int64_t stride, int64_t depth, int64_t columns, Bf16* packed, int64_t first_panel,
                int64_t last_panel) {
  const int64_t steps = round_up(depth, kDepthStep) / kDepthStep;
  const __m512i zero = _mm512_setzero_si512();
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const int64_t count = columns - panel * kPanel;
      Bf16* to = packed + (panel * steps + step) * kStep;
      for (int64_t row = step * kDepthStep; row < (step + 1) * kDepthStep; row += 2, to += 32) {
        const T* from = b + row * stride + panel * kPanel;
        __m512i low, high;
        interleave_rows(row < depth ? load_32(from, count) : zero, row + 1 < depth ? load_32(from + stride, count) : zero, &low,
                        &high);
        _mm512_store_si512(to, low);
        _mm512_store_si512(to + kTile, high);
      }
    }
  }
}

template <class T>
void pack_right_transposed(const T* bt, int64_t stride, int64_t depth, int64_t columns, Bf16* packed, int64_t first_panel,
                           int64_t last_panel) {
  const int64_t steps = round_up(depth, kDepthStep) / kDepthStep;
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    Bf16* to = packed + panel * steps * kStep;
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t half = 0; half < 2; ++half, to += kTile) {
        __m512i rows[16];
#pragma GCC unroll 16
        for (int64_t i = 0; i < 16; ++i) {
          const int64_t column = panel * kPanel + half * 16 + i;
          rows[i] = column < columns ? load_32(bt + column * stride + step * kDepthStep, depth - step * kDepthStep)
                                     : _mm512_setzero_si512();
        }
        transpose_16x16(rows);
#pragma GCC unroll 16
        for (int64_t i = 0; i < 16; ++i) _mm512_store_si512(to + i * 32, rows[i]);
      }
    }
  }
}

/// to [32, 32] = transpose of from [rows, columns], of which there may be more than 32 or, then read as zeros, fewer.
PGOLF_AMX_INLINE void transpose_block(const Bf16* from, int64_t stride, int64_t rows, int64_t columns, Bf16* to,
                                      int64_t to_stride) {
  __m512i low[16], high[16];
#pragma GCC unroll 16
  for (int64_t i = 0; i < 16; ++i) {
    const __m512i even = 2 * i < rows ? load_32(from + 2 * i * stride, columns) : _mm512_setzero_si512();
    const __m512i odd = 2 * i + 1 < rows ? load_32(from + (2 * i + 1) * stride, columns) : _mm512_setzero_si512();
    interleave_rows(even, odd, low + i, high + i);
  }
  transpose_16x16(low);
  transpose_16x16(high);
#pragma GCC unroll 16
  for (int64_t i = 0; i < 16; ++i) {
    _mm512_storeu_si512(to + i * to_stride, low[i]);
    _mm512_storeu_si512(to + (16 + i) * to_stride, high[i]);
  }
}

void pack_left_transposed(const Bf16* at, int64_t stride, int64_t depth, int64_t rows, Bf16* packed, int64_t first_panel,
                          int64_t last_panel) {
  const int64_t steps = round_up(depth, kDepthStep) / kDepthStep;
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    Bf16* to = packed + panel * steps * kStep;
    for (int64_t step = 0; step < steps; ++step, to += kStep) {
      const int64_t row = step * kDepthStep;
      transpose_block(at + row * stride + panel * kPanel, stride, depth - row, rows - panel * kPanel, to, 32);
    }
  }
}

PGOLF_AMX_INLINE __m512 low_half(__m512i bits) {
  return from_bf16(_mm512_castsi512_si256(bits));
}
PGOLF_AMX_INLINE __m512 high_half(__m512i bits) {
  return from_bf16(_mm512_extracti64x4_epi64(bits, 1));
}

/// A finished block that waits to be stored: up to 32 x 32 sums.
struct Block {
  const float* sums;
  int64_t row, column;  ///< of the block's first sum
  int64_t rows;         ///< to be stored
};

/// Rows first .. last-1 of the block.
template <Store kStore>
PGOLF_AMX_INLINE void store_rows(const Block& block, int64_t first, int64_t last, int64_t columns, const Output& output) {
  const float* const sums = block.sums;
  const int64_t row = block.row, column = block.column;
  const int64_t count = columns - column;
  const __mmask32 mask = first_of_32(count);
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t i = first; i < last; ++i) {
    const __m512 low = _mm512_load_ps(sums + i * 32), high = _mm512_load_ps(sums + i * 32 + 16);
    Bf16* const d = output.d + (row + i) * output.d_stride + column;
    if constexpr (kStore == Store::float32 || kStore == Store::add_float32) {
      float* const c = static_cast<float*>(output.c) + (row + i) * output.c_stride + column;
      const __mmask16 mask_low = first_of_16(count), mask_high = first_of_16(count - 16);
      if constexpr (kStore == Store::float32) {
        _mm512_mask_storeu_ps(c, mask_low, low);
        _mm512_mask_storeu_ps(c + 16, mask_high, high);
      } else {
        _mm512_mask_storeu_ps(c, mask_low, _mm512_add_ps(_mm512_maskz_loadu_ps(mask_low, c), low));
        _mm512_mask_storeu_ps(c + 16, mask_high, _mm512_add_ps(_mm512_maskz_loadu_ps(mask_high, c + 16), high));
      }
    } else {
      Bf16* const c = static_cast<Bf16*>(output.c) + (row + i) * output.c_stride + column;
      __m512i result;
      if constexpr (kStore == Store::bfloat16) {
        result = to_bf16(low, high);
      } else if constexpr (kStore == Store::combine) {
        const __m512i other = _mm512_maskz_loadu_epi16(mask, d);
        const __m512 p = _mm512_set1_ps(output.p), q = _mm512_set1_ps(output.q);
        result = to_bf16(_mm512_fmadd_ps(p, low_half(other), _mm512_mul_ps(q, low)),
                         _mm512_fmadd_ps(p, high_half(other), _mm512_mul_ps(q, high)));
      } else if constexpr (kStore == Store::relu_squared) {
        const __m512i before = to_bf16(low, high);
        _mm512_mask_storeu_epi16(d, mask, before);
        // Of a NaN, max gives the second operand: it passes through.
        const __m512 a = _mm512_max_ps(zero, low_half(before)), b = _mm512_max_ps(zero, high_half(before));
        result = to_bf16(_mm512_mul_ps(a, a), _mm512_mul_ps(b, b));
      } else {
        const __m512i before = _mm512_maskz_loadu_epi16(mask, d);
        const __m512 a = _mm512_max_ps(zero, low_half(before)), b = _mm512_max_ps(zero, high_half(before));
        result = to_bf16(_mm512_mul_ps(_mm512_add_ps(a, a), low), _mm512_mul_ps(_mm512_add_ps(b, b), high));
      }
      _mm512_mask_storeu_epi16(c, mask, result);
    }
  }
}

/// Asks for what store_rows() of the block at these rows and this column will read and write.
template <Store kStore>
PGOLF_AMX_INLINE void prefetch_rows(int64_t first, int64_t last, int64_t column, const Output& output) {
  constexpr bool floats = kStore == Store::float32 || kStore == Store::add_float32;
  constexpr bool with_d = kStore == Store::combine || kStore == Store::relu_squared || kStore == Store::relu_squared_backward;
  for (int64_t row = first; row < last; ++row) {
    const int64_t at = row * output.c_stride + column;
    if constexpr (floats) {
      __builtin_prefetch(static_cast<float*>(output.c) + at, 1);
      __builtin_prefetch(static_cast<float*>(output.c) + at + 16, 1);
    } else {
      __builtin_prefetch(static_cast<Bf16*>(output.c) + at, 1);
    }
    if constexpr (with_d) __builtin_prefetch(output.d + row * output.d_stride + column, kStore == Store::relu_squared);
  }
}

/// One block of the product, in tiles 0-3, from left operands in tiles 4 and 5 and right ones in 6 and 7; `second` is the
/// distance of the lower left tile. The previous block is stored in between, a few rows per step: the tile unit works on its
/// own, so the vector instructions come almost free.
template <Store kStore>
PGOLF_AMX_INLINE void multiply_block(const Term* terms, int64_t term_count, int64_t row, int64_t second, int64_t panel,
                                     float* sums, const Block& previous, int64_t columns, const Output& output) {
  int64_t all_steps = 0;
  for (int64_t i = 0; i < term_count; ++i) all_steps += round_up(terms[i].depth, kDepthStep) / kDepthStep;
  const int64_t share = (previous.rows + all_steps - 1) / all_steps;
  int64_t stored = 0;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < term_count; ++i) {
    const Term& term = terms[i];
    const int64_t steps = round_up(term.depth, kDepthStep) / kDepthStep;
    const bool packed = term.left_stride == 0;
    const Bf16* left = packed ? term.left + row / kPanel * steps * kStep : term.left + row * term.left_stride;
    const Bf16* left2 = packed ? left + kTile : left + second * term.left_stride;
    const int64_t left_row = packed ? 64 : 2 * term.left_stride;
    const int64_t left_step = packed ? kStep : kDepthStep;
    const Bf16* right = term.right + panel * steps * kStep;
    for (int64_t step = 0; step < steps; ++step, left += left_step, left2 += left_step, right += kStep) {
      _tile_loadd(4, left, left_row);
      _tile_loadd(6, right, 64);
      prefetch_tile(left + left_step, left_row);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, right + kTile, 64);
      prefetch_tile(right + kStep, 64);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, left2, left_row);
      prefetch_tile(left2 + left_step, left_row);
      _tile_dpbf16ps(2, 5, 6);
      prefetch_tile(right + kStep + kTile, 64);
      _tile_dpbf16ps(3, 5, 7);
      const int64_t end = stored + share < previous.rows ? stored + share : previous.rows;
      store_rows<kStore>(previous, stored, end, columns, output);
      prefetch_rows<kStore>(row + stored, row + end, panel * kPanel, output);
      stored = end;
    }
  }
  _tile_stored(0, sums, 128);
  _tile_stored(1, sums + 16, 128);
  _tile_stored(2, sums + 16 * 32, 128);
  _tile_stored(3, sums + 16 * 32 + 16, 128);
}

/// Blocks one after the other, each stored during the next.
template <Store kStore>
class Blocks {
 public:
  Blocks(const Term* terms, int64_t term_count, int64_t columns, const Output& output)
      : terms_(terms), term_count_(term_count), columns_(columns), output_(output) {}

  PGOLF_AMX_INLINE void multiply(int64_t row, int64_t rows, int64_t second, int64_t panel) {
    float* const sums = sums_[turn_];
    turn_ ^= 1;
    multiply_block<kStore>(terms_, term_count_, row, second, panel, sums, previous_, columns_, output_);
    previous_ = {sums, row, panel * kPanel, rows};
  }
  PGOLF_AMX_INLINE void finish() {
    store_rows<kStore>(previous_, 0, previous_.rows, columns_, output_);
    previous_.rows = 0;
  }

 private:
  const Term* terms_;
  int64_t term_count_, columns_;
  const Output& output_;
  alignas(64) float sums_[2][32 * 32];
  int turn_ = 0;
  Block previous_ = {sums_[0], 0, 0, 0};
};

/// Rows are taken in groups small enough that a group's left operand and one right panel stay in the first-level cache and
/// near by; a panel is used for all rows of a group before the next one is touched.
constexpr int64_t kRowGroup = 64;

/// Shapes the tiles for a block of fewer than 32 rows, so that nothing behind the left operand is read. Up to 16 rows are
/// computed twice over: a tile cannot be empty.
class TailScope {
 public:
  explicit TailScope(int64_t rows) {
    const auto upper = static_cast<uint8_t>(rows < 16 ? rows : 16), lower = static_cast<uint8_t>(rows > 16 ? rows - 16 : rows);
    const uint8_t tile_rows[8] = {upper, upper, lower, lower, upper, lower, 16, 16};
    alignas(64) uint8_t config[64] = {};
    config[0] = 1;  // palette
    for (int tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = 64;
      config[48 + tile] = tile_rows[tile];
    }
    _tile_loadconfig(config);
  }
  ~TailScope() { _tile_release(); }
  TailScope(const TailScope&) = delete;
  TailScope& operator=(const TailScope&) = delete;
};

template <Store kStore>
void multiply_rows(const Term* terms, int64_t term_count, int64_t first_row, int64_t last_row, int64_t columns,
                   const Output& output) {
  Blocks<kStore> blocks(terms, term_count, columns, output);
  const int64_t panels = round_up(columns, kPanel) / kPanel;
  const int64_t tail = terms[0].left_stride == 0 ? 0 : (last_row - first_row) % kPanel;
  const int64_t last_full = last_row - tail;
  {
    const TileScope tiles;
    for (int64_t group = first_row; group < last_full; group += kRowGroup) {
      const int64_t group_end = group + kRowGroup < last_full ? group + kRowGroup : last_full;
      for (int64_t panel = 0; panel < panels; ++panel) {
        for (int64_t row = group; row < group_end; row += kPanel) {
          if (output.upper && panel * kPanel < row) break;
          blocks.multiply(row, last_full - row < kPanel ? last_full - row : kPanel, 16, panel);
        }
      }
    }
    blocks.finish();
  }
  if (tail == 0) return;
  const TailScope tiles(tail);
  for (int64_t panel = 0; panel < panels; ++panel) {
    blocks.multiply(last_full, tail, tail > 16 ? 16 : 0, panel);
  }
  blocks.finish();
}

}  // namespace

void multiply(const Term* terms, int64_t term_count, int64_t first_row, int64_t last_row, int64_t columns, const Output& output) {
  switch (output.store) {
    case Store::bfloat16:
      return multiply_rows<Store::bfloat16>(terms, term_count, first_row, last_row, columns, output);
    case Store::combine:
      return multiply_rows<Store::combine>(terms, term_count, first_row, last_row, columns, output);
    case Store::relu_squared:
      return multiply_rows<Store::relu_squared>(terms, term_count, first_row, last_row, columns, output);
    case Store::relu_squared_backward:
      return multiply_rows<Store::relu_squared_backward>(terms, term_count, first_row, last_row, columns, output);
    case Store::float32:
      return multiply_rows<Store::float32>(terms, term_count, first_row, last_row, columns, output);
    case Store::add_float32:
      return multiply_rows<Store::add_float32>(terms, term_count, first_row, last_row, columns, output);
  }
}

void mirror(Bf16* c, int64_t size) {
  for (int64_t row = 0; row < size; row += kPanel) {
    for (int64_t column = row + kPanel; column < size; column += kPanel) {
      transpose_block(c + row * size + column, size, kPanel, kPanel, c + column * size + row, size);
    }
  }
}

const Packing packing = {pack_right<Bf16>, pack_right<float>, pack_right_transposed<Bf16>, pack_right_transposed<float>,
                         pack_left_transposed};

}  // namespace pgolf::ops::amx
