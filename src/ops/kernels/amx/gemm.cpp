#include "gemm.h"

#include "blocks.h"

namespace pgolf::ops::amx {
namespace {

constexpr int64_t kStep = kBlockSize;  ///< elements of a panel per step of depth: two tiles

/// How a block becomes part of a packed operand, and whether the matrix has the panels along its rows or along its lanes.
struct Left {
  static constexpr bool kPanelsOfRows = true;
  static void store(const LoadedBlock& block, Bf16* to) { block.store_left(to); }
};
struct LeftTransposed {
  static constexpr bool kPanelsOfRows = false;
  static void store(const LoadedBlock& block, Bf16* to) { block.store_transposed_left(to); }
};
struct Right {
  static constexpr bool kPanelsOfRows = false;
  static void store(const LoadedBlock& block, Bf16* to) { block.store_right(to); }
};
struct RightTransposed {
  static constexpr bool kPanelsOfRows = true;
  static void store(const LoadedBlock& block, Bf16* to) { block.store_transposed_right(to); }
};

/// Rows of blocks outside, so that every row is read on from where it was left.
template <class Form, class T>
void pack(const T* x, int64_t stride, int64_t depth, int64_t width, Bf16* packed, int64_t first_panel, int64_t last_panel) {
  const int64_t steps = blocks_of(depth);
  if constexpr (Form::kPanelsOfRows) {
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      for (int64_t step = 0; step < steps; ++step) {
        Form::store(LoadedBlock(Rows<const T*>{x, stride}, width, depth, panel, step), packed + (panel * steps + step) * kStep);
      }
    }
  } else {
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t panel = first_panel; panel < last_panel; ++panel) {
        Form::store(LoadedBlock(Rows<const T*>{x, stride}, depth, width, step, panel), packed + (panel * steps + step) * kStep);
      }
    }
  }
}

/// A block of the product: up to 32 x 32 sums.
struct Block {
  float* sums;
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
        const Floats other = floats_of(_mm512_maskz_loadu_epi16(mask, d));
        const __m512 p = _mm512_set1_ps(output.p), q = _mm512_set1_ps(output.q);
        result =
            to_bf16(_mm512_fmadd_ps(p, other.low, _mm512_mul_ps(q, low)), _mm512_fmadd_ps(p, other.high, _mm512_mul_ps(q, high)));
      } else if constexpr (kStore == Store::relu_squared) {
        const __m512i bits = to_bf16(low, high);
        _mm512_mask_storeu_epi16(d, mask, bits);
        const Floats before = floats_of(bits);
        // Of a NaN, max gives the second operand: it passes through.
        const __m512 a = _mm512_max_ps(zero, before.low), b = _mm512_max_ps(zero, before.high);
        result = to_bf16(_mm512_mul_ps(a, a), _mm512_mul_ps(b, b));
      } else {
        const Floats before = floats_of(_mm512_maskz_loadu_epi16(mask, d));
        const __m512 a = _mm512_max_ps(zero, before.low), b = _mm512_max_ps(zero, before.high);
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

/// One block of the product, in tiles 0-3, from left operands in tiles 4 and 5 and right ones in 6 and 7. The previous block is
/// stored in between, a few rows per step: the tile unit works on its own, so the vector instructions come almost free.
template <Store kStore>
PGOLF_AMX_INLINE void multiply_block(const Term* terms, int64_t term_count, const Block& block, const Block& previous,
                                     int64_t columns, const Output& output) {
  int64_t all_steps = 0;
  for (int64_t i = 0; i < term_count; ++i) all_steps += blocks_of(terms[i].depth);
  const int64_t share = (previous.rows + all_steps - 1) / all_steps;
  int64_t stored = 0;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < term_count; ++i) {
    const int64_t steps = blocks_of(terms[i].depth);
    const Bf16* left = terms[i].left + block.row / kPanel * steps * kStep;
    const Bf16* right = terms[i].right + block.column / kPanel * steps * kStep;
    for (int64_t step = 0; step < steps; ++step, left += kStep, right += kStep) {
      multiply_step(left, right);
      const int64_t end = least(stored + share, previous.rows);
      store_rows<kStore>(previous, stored, end, columns, output);
      prefetch_rows<kStore>(block.row + stored, block.row + end, block.column, output);
      stored = end;
    }
  }
  _tile_stored(0, block.sums, 128);
  _tile_stored(1, block.sums + 16, 128);
  _tile_stored(2, block.sums + 16 * 32, 128);
  _tile_stored(3, block.sums + 16 * 32 + 16, 128);
}

/// Rows are taken in groups small enough that a group's left operand stays in the second-level cache; a right panel is used for
/// all rows of a group before the next one is touched.
constexpr int64_t kRowGroup = 64;

template <Store kStore>
void multiply_rows(const Term* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output) {
  const TileScope tiles;
  alignas(64) float sums[2][32 * 32];
  Block previous{sums[1], 0, 0, 0};
  for (int64_t group = 0; group < rows; group += kRowGroup) {
    const int64_t group_end = least(group + kRowGroup, rows);
    for (int64_t column = 0; column < columns; column += kPanel) {
      for (int64_t row = group; row < group_end; row += kPanel) {
        if (output.upper && column < row) break;
        const Block block{previous.sums == sums[0] ? sums[1] : sums[0], row, column, least(rows - row, kPanel)};
        multiply_block<kStore>(terms, term_count, block, previous, columns, output);
        previous = block;
      }
    }
  }
  store_rows<kStore>(previous, 0, previous.rows, columns, output);
}

}  // namespace

void multiply(const Term* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output) {
  switch (output.store) {
    case Store::bfloat16:
      return multiply_rows<Store::bfloat16>(terms, term_count, rows, columns, output);
    case Store::combine:
      return multiply_rows<Store::combine>(terms, term_count, rows, columns, output);
    case Store::relu_squared:
      return multiply_rows<Store::relu_squared>(terms, term_count, rows, columns, output);
    case Store::relu_squared_backward:
      return multiply_rows<Store::relu_squared_backward>(terms, term_count, rows, columns, output);
    case Store::float32:
      return multiply_rows<Store::float32>(terms, term_count, rows, columns, output);
    case Store::add_float32:
      return multiply_rows<Store::add_float32>(terms, term_count, rows, columns, output);
  }
}

void mirror(Bf16* c, int64_t size) {
  for (int64_t row = 0; row < size / kBlock; ++row) {
    for (int64_t column = row + 1; column < size / kBlock; ++column) {
      alignas(64) Bf16 turned[kBlockSize];
      LoadedBlock(Rows<const Bf16*>{c, size}, size, size, row, column).store_transposed_left(turned);
      Bf16* const to = c + (column * size + row) * kBlock;
      for (int64_t i = 0; i < kBlock; ++i) _mm512_storeu_si512(to + i * size, _mm512_load_si512(turned + i * kBlock));
    }
  }
}

const Packing packing = {pack<Left, Bf16>,   pack<LeftTransposed, Bf16>,  pack<Right, Bf16>,
                         pack<Right, float>, pack<RightTransposed, Bf16>, pack<RightTransposed, float>};

}  // namespace pgolf::ops::amx
