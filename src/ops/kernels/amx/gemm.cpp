#include "gemm.h"

#include "blocks.h"

namespace pgolf::ops::amx {
namespace {

constexpr int64_t kStep = kBlockSize;  ///< elements of a panel per step of depth: two tiles

/// What a matrix is packed as; the panels of an operand lie along its rows or along its columns.
enum class Form { left, left_transposed, right, right_transposed };

template <Form kForm, class Block>
PGOLF_AMX_INLINE void store_as(const Block& block, Bf16* to) {
  if constexpr (kForm == Form::left) {
    block.store_left(to);
  } else if constexpr (kForm == Form::left_transposed) {
    block.store_transposed_left(to);
  } else if constexpr (kForm == Form::right) {
    block.store_right(to);
  } else {
    block.store_transposed_right(to);
  }
}

/// The outer loop is over rows of blocks, so that every row is read sequentially.
template <Form kForm, int kPart, class T>
void pack_part(Rows<const T*> x, int64_t depth, int64_t width, Bf16* packed, int64_t first_panel, int64_t last_panel) {
  const int64_t steps = blocks_of(depth);
  const auto to = [&](int64_t panel, int64_t step) { return packed + (panel * steps + step) * kStep; };
  if constexpr (kForm == Form::left || kForm == Form::right_transposed) {
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      for (int64_t step = 0; step < steps; ++step) {
        store_as<kForm>(block_of<kPart>(x, width, depth, panel, step), to(panel, step));
      }
    }
  } else {
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t panel = first_panel; panel < last_panel; ++panel) {
        store_as<kForm>(block_of<kPart>(x, depth, width, step, panel), to(panel, step));
      }
    }
  }
}

template <Form kForm, int kPartCount, class T>
void pack(const T* x, int64_t stride, int64_t depth, int64_t width, Bf16* packed, int64_t first_panel, int64_t last_panel) {
  pack_part<kForm, 0>(Rows<const T*>{x, stride}, depth, width, packed, first_panel, last_panel);
  if constexpr (kPartCount == 2) {
    pack_part<kForm, 1>(Rows<const T*>{x, stride}, depth, width, packed + packed_size(depth, width), first_panel, last_panel);
  }
}

/// A block of the product: up to 32 x 32 sums.
struct Block {
  float* sums;
  int64_t row, column;  ///< of the block's first sum
  int64_t rows;         ///< to be stored
};

/// A value after a round trip through memory.
template <class T>
PGOLF_AMX_INLINE Floats as_stored(Floats x) {
  return sizeof(T) == sizeof(float) ? x : floats_of(to_bf16(x.low, x.high));
}

/// f on every lane.
template <class F, class... Values>
PGOLF_AMX_INLINE Floats each(const F& f, Values... values) {
  return {f(values.low...), f(values.high...)};
}

/// x, times q where it is negative. NaN propagates.
PGOLF_AMX_INLINE __m512 leaky(__m512 x, float q) {
  return _mm512_mask_mul_ps(x, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), x, _mm512_set1_ps(q));
}

/// Rows first .. last-1 of the block; c and d hold T.
template <Store kStore, class T>
PGOLF_AMX_INLINE void store_rows(const Block& block, int64_t first, int64_t last, int64_t columns, const Output& output) {
  const int64_t count = columns - block.column;
  for (int64_t i = first; i < last; ++i) {
    const Floats sum = {_mm512_load_ps(block.sums + i * 32), _mm512_load_ps(block.sums + i * 32 + 16)};
    T* const c = static_cast<T*>(output.c) + (block.row + i) * output.c_stride + block.column;
    T* const d = static_cast<T*>(output.d) + (block.row + i) * output.d_stride + block.column;
    if constexpr (kStore == Store::assign) {
      store_floats(c, count, sum);
    } else if constexpr (kStore == Store::add) {
      store_floats(c, count, each([](__m512 a, __m512 b) { return _mm512_add_ps(a, b); }, load_floats(c, count), sum));
    } else if constexpr (kStore == Store::combine) {
      const __m512 p = _mm512_set1_ps(output.p), q = _mm512_set1_ps(output.q);
      store_floats(
          c, count,
          each([&](__m512 a, __m512 b) { return _mm512_fmadd_ps(p, a, _mm512_mul_ps(q, b)); }, load_floats(d, count), sum));
    } else if constexpr (kStore == Store::leaky_squared) {
      store_floats(d, count, sum);
      const Floats x = as_stored<T>(sum);
      store_floats(c, count, each([&](__m512 a) { return _mm512_mul_ps(a, leaky(a, output.q)); }, x));
    } else {
      const auto gradient = [&](__m512 a, __m512 b) {
        const __m512 x = leaky(a, output.q);
        return _mm512_mul_ps(_mm512_add_ps(x, x), b);
      };
      store_floats(c, count, each(gradient, load_floats(d, count), sum));
    }
  }
}

/// Prefetches what store_rows() of the block at these rows and this column will read and write.
template <Store kStore, class T>
PGOLF_AMX_INLINE void prefetch_rows(int64_t first, int64_t last, int64_t column, const Output& output) {
  constexpr bool with_d = kStore == Store::combine || kStore == Store::leaky_squared || kStore == Store::leaky_squared_backward;
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t row = first; row < last; ++row) {
    const T* const c = static_cast<const T*>(output.c) + row * output.c_stride + column;
    const T* const d = static_cast<const T*>(output.d) + row * output.d_stride + column;
    for (int64_t offset = 0; offset < kPanel; offset += line) {
      __builtin_prefetch(c + offset, 1);
      if constexpr (with_d) __builtin_prefetch(d + offset, kStore == Store::leaky_squared);
    }
  }
}

/// One block of the product, in tiles 0-3, from left operands in tiles 4 and 5 and right ones in 6 and 7. The previous block is
/// stored in between, a few rows per step: the tile unit works asynchronously, so the vector instructions are almost free.
template <Store kStore, class T>
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
      const int64_t end = min(stored + share, previous.rows);
      store_rows<kStore, T>(previous, stored, end, columns, output);
      prefetch_rows<kStore, T>(block.row + stored, block.row + end, block.column, output);
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

template <Store kStore, class T>
void multiply_rows(const Term* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output) {
  const TileScope tiles;
  alignas(64) float sums[2][32 * 32];
  Block previous{sums[1], 0, 0, 0};
  for (int64_t group = 0; group < rows; group += kRowGroup) {
    const int64_t group_end = min(group + kRowGroup, rows);
    for (int64_t column = 0; column < columns; column += kPanel) {
      for (int64_t row = group; row < group_end; row += kPanel) {
        if (output.upper && column < row) break;
        const Block block{previous.sums == sums[0] ? sums[1] : sums[0], row, column, min(rows - row, kPanel)};
        multiply_block<kStore, T>(terms, term_count, block, previous, columns, output);
        previous = block;
      }
    }
  }
  store_rows<kStore, T>(previous, 0, previous.rows, columns, output);
}

template <class T>
void multiply_into(const Term* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output) {
  switch (output.store) {
    case Store::assign:
      return multiply_rows<Store::assign, T>(terms, term_count, rows, columns, output);
    case Store::add:
      return multiply_rows<Store::add, T>(terms, term_count, rows, columns, output);
    case Store::combine:
      return multiply_rows<Store::combine, T>(terms, term_count, rows, columns, output);
    case Store::leaky_squared:
      return multiply_rows<Store::leaky_squared, T>(terms, term_count, rows, columns, output);
    case Store::leaky_squared_backward:
      return multiply_rows<Store::leaky_squared_backward, T>(terms, term_count, rows, columns, output);
  }
}

}  // namespace

void multiply(const Term* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output) {
  if (output.type == Element::float32) {
    multiply_into<float>(terms, term_count, rows, columns, output);
  } else {
    multiply_into<Bf16>(terms, term_count, rows, columns, output);
  }
}

void mirror(Bf16* c, int64_t size) {
  for (int64_t row = 0; row < size / kBlock; ++row) {
    for (int64_t column = row + 1; column < size / kBlock; ++column) {
      alignas(64) Bf16 transposed[kBlockSize];
      block_of(Rows<const Bf16*>{c, size}, size, size, row, column).store_transposed_left(transposed);
      Bf16* const to = c + (column * size + row) * kBlock;
      for (int64_t i = 0; i < kBlock; ++i) _mm512_storeu_si512(to + i * size, _mm512_load_si512(transposed + i * kBlock));
    }
  }
}

const Packing<Bf16> packing = {pack<Form::left, 1>, pack<Form::left_transposed, 1>, pack<Form::right, 1>,
                               pack<Form::right_transposed, 1>};
const Packing<float> packing_rounded = {pack<Form::left, 1>, pack<Form::left_transposed, 1>, pack<Form::right, 1>,
                                        pack<Form::right_transposed, 1>};
const Packing<float> packing_in_parts = {pack<Form::left, 2>, pack<Form::left_transposed, 2>, pack<Form::right, 2>,
                                         pack<Form::right_transposed, 2>};

}  // namespace pgolf::ops::amx
