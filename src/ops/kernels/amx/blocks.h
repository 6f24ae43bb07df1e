// Matrices in blocks of 32 x 32 for products on AMX tiles: packing, a queue of products, and conversion back to rows.
//
// All operands are padded with zeros to whole blocks. A "panel" is 32 rows of a left operand, or 32 columns of a right one,
// along the whole depth: per 32 of depth two tiles, one after the other. A block of float32 results is four tiles: rows 0-15
// left and right, rows 16-31 left and right.
#pragma once

#include "../attention.h"
#include "tile.h"

namespace pgolf::ops {
namespace {

constexpr int64_t kBlock = 32;                   ///< rows, columns and depth of a block
constexpr int64_t kBlockSize = kBlock * kBlock;  ///< elements
constexpr int64_t kTile = 256;                   ///< floats, or pairs of bfloat16, in a tile

inline int64_t min(int64_t a, int64_t b) {
  return a < b ? a : b;
}

inline int64_t blocks_of(int64_t count) {
  return (count + kBlock - 1) / kBlock;
}

/// 32 values as bfloat16, those from `count` on zero. Of a float, kPart 0 is the nearest bfloat16 and kPart 1 that of the
/// remainder. The two together differ from the float by at most 2^-17 of it.
template <int kPart>
PGOLF_AMX_INLINE __m512i load_part(const Bf16* from, int64_t count) {
  return _mm512_maskz_loadu_epi16(first_of_32(count), from);
}
template <int kPart>
PGOLF_AMX_INLINE __m512i load_part(const float* from, int64_t count) {
  const Floats x = load_floats(from, count);
  const __m512i nearest = to_bf16(x.low, x.high);
  if (kPart == 0) return nearest;
  const Floats first = floats_of(nearest);
  const Floats rest = {_mm512_sub_ps(x.low, first.low), _mm512_sub_ps(x.high, first.high)};
  // The remainder of an infinity or a NaN, which the first part holds, is zero.
  const __m512 largest = _mm512_set1_ps(3.4e38f);
  return to_bf16(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_abs_ps(rest.low), largest, _CMP_LT_OQ), rest.low),
                 _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_abs_ps(rest.high), largest, _CMP_LT_OQ), rest.high));
}

/// A 32 x 32 block of a row-major matrix; rows and columns outside of it are zeros.
template <class T, int kPart>
class SourceBlock {
 public:
  SourceBlock(Rows<const T*> matrix, int64_t rows, int64_t columns, int64_t row_block, int64_t column_block)
      : data_(matrix.data + row_block * kBlock * matrix.stride + column_block * kBlock),
        stride_(matrix.stride),
        rows_(rows - row_block * kBlock),
        columns_(columns - column_block * kBlock) {}

  /// The block as left operand: 32 rows, one step of depth.
  void store_left(Bf16* to) const {
#pragma GCC unroll 4
    for (int64_t i = 0; i < kBlock; ++i) _mm512_store_si512(to + i * kBlock, row(i));
  }
  /// The transposed block as right operand: the block's rows are the columns.
  void store_transposed_right(Bf16* to) const {
    for (int64_t half = 0; half < 2; ++half) {
      __m512i rows[16];
#pragma GCC unroll 16
      for (int64_t i = 0; i < 16; ++i) rows[i] = row(16 * half + i);
      store_transposed(rows, to + half * 2 * kTile);
    }
  }
  /// The block as right operand: its rows are the depth.
  void store_right(Bf16* to) const {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 16; ++i) {
      __m512i low, high;
      interleave_rows(row(2 * i), row(2 * i + 1), &low, &high);
      _mm512_store_si512(to + i * kBlock, low);
      _mm512_store_si512(to + 2 * kTile + i * kBlock, high);
    }
  }
  /// The transposed block as left operand.
  void store_transposed_left(Bf16* to) const {
    __m512i low[16], high[16];
#pragma GCC unroll 16
    for (int64_t i = 0; i < 16; ++i) interleave_rows(row(2 * i), row(2 * i + 1), low + i, high + i);
    store_transposed(low, to);
    store_transposed(high, to + 2 * kTile);
  }

 private:
  PGOLF_AMX_INLINE __m512i row(int64_t i) const {
    if (i >= rows_) return _mm512_setzero_si512();
    const T* const from = data_ + i * stride_;
    _mm_prefetch(from + kBlock * stride_, _MM_HINT_T1);  // the next block's row: too far for the hardware prefetcher
    return load_part<kPart>(from, columns_);
  }
  PGOLF_AMX_INLINE static void store_transposed(__m512i rows[16], Bf16* to) {
    transpose_16x16(rows);
#pragma GCC unroll 16
    for (int64_t i = 0; i < 16; ++i) _mm512_store_si512(to + i * kBlock, rows[i]);
  }

  const T* data_;
  int64_t stride_, rows_, columns_;
};

template <int kPart = 0, class T>
SourceBlock<T, kPart> block_of(Rows<const T*> matrix, int64_t rows, int64_t columns, int64_t row_block, int64_t column_block) {
  return {matrix, rows, columns, row_block, column_block};
}

/// Tiles 0-3 += one step of a left panel times one of a right panel. Prefetches the following step of both.
PGOLF_AMX_INLINE void multiply_step(const Bf16* left, const Bf16* right) {
  _tile_loadd(4, left, 64);
  _tile_loadd(6, right, 64);
  prefetch_tile(left + kBlockSize);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, right + 2 * kTile, 64);
  prefetch_tile(right + kBlockSize);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, left + 2 * kTile, 64);
  prefetch_tile(left + kBlockSize + 2 * kTile);
  _tile_dpbf16ps(2, 5, 6);
  prefetch_tile(right + kBlockSize + 2 * kTile);
  _tile_dpbf16ps(3, 5, 7);
}

/// c (+)= left panel times right panel, over `steps` of 32 of depth.
struct Product {
  float* c;
  const Bf16 *left, *right;
  int64_t steps;
  bool accumulate;
};

/// Products that run one by one between vector instructions: the tile unit works in parallel with the vector units. A result is
/// stored when the next product starts, so that nothing waits for it.
class ProductQueue {
 public:
  void add(const Product& product) { products_[end_++] = product; }

  /// Runs immediately, ahead of the queue. Not inlined: it has many call sites and takes long.
  __attribute__((noinline)) void start(const Product& product) {
    flush();
    float* const c = product.c;
    if (product.accumulate) {
      _tile_loadd(0, c, 64);
      _tile_loadd(1, c + kTile, 64);
      _tile_loadd(2, c + 2 * kTile, 64);
      _tile_loadd(3, c + 3 * kTile, 64);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    const Bf16 *left = product.left, *right = product.right;
    for (int64_t step = 0; step < product.steps; ++step, left += kBlockSize, right += kBlockSize) {
      multiply_step(left, right);
    }
    unstored_ = c;
  }
  /// Stores the product that was started last.
  void flush() {
    if (unstored_ == nullptr) return;
    _tile_stored(0, unstored_, 64);
    _tile_stored(1, unstored_ + kTile, 64);
    _tile_stored(2, unstored_ + 2 * kTile, 64);
    _tile_stored(3, unstored_ + 3 * kTile, 64);
    unstored_ = nullptr;
  }

  /// Starts the next product of the queue, if any, and stores the previous one.
  void step() {
    if (next_ < end_) {
      start(products_[next_++]);
    } else {
      flush();
    }
  }
  /// Runs and stores all products of the queue.
  void drain() {
    while (next_ < end_) start(products_[next_++]);
    next_ = end_ = 0;
    flush();
  }

 private:
  static constexpr int64_t kCapacity = 128;  ///< maximum number of add() calls between two of drain()
  Product products_[kCapacity];
  int64_t next_ = 0, end_ = 0;
  float* unstored_ = nullptr;  ///< where the contents of tiles 0-3 belong
};

/// Blocks of dims x queries, one per 32 dims, times `factor` per query, into the rows of at most 32 queries.
inline void write_transposed(const float* blocks, const __m512 factor[2], Rows<Bf16*> to, int64_t rows, int64_t dim) {
  for (int64_t half = 0; half < 2; ++half) {
    for (int64_t column = 0; column < dim; column += kBlock) {
      __m512i transposed[2][16];
      for (int64_t side = 0; side < 2; ++side) {
        const float* const from = blocks + column * kBlock + (2 * side + half) * kTile;
        for (int i = 0; i < 16; ++i) {
          transposed[side][i] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(from + i * 16), factor[half]));
        }
        transpose_16x16(transposed[side]);
      }
      const __mmask32 mask = dim - column < kBlock ? 0xffffu : ~0u;
      for (int64_t i = 0; i < 16 && half * 16 + i < rows; ++i) {
        const __m512i row = to_bf16(_mm512_castsi512_ps(transposed[0][i]), _mm512_castsi512_ps(transposed[1][i]));
        _mm512_mask_storeu_epi16(to.data + (half * 16 + i) * to.stride + column, mask, row);
      }
    }
  }
}

/// Blocks of keys x dims, one per 32 dims, times `factor`, into the dense rows of at most 32 keys.
inline void write_rows(const float* blocks, float factor, float* to, int64_t rows, int64_t dim) {
  for (int64_t row = 0; row < rows && row < kBlock; ++row) {
    for (int64_t column = 0; column < dim; column += 16) {
      const float* const from = blocks + column / kBlock * kBlockSize + (row / 16 * 2 + column / 16 % 2) * kTile + row % 16 * 16;
      _mm512_storeu_ps(to + row * dim + column, _mm512_mul_ps(_mm512_load_ps(from), _mm512_set1_ps(factor)));
    }
  }
}

/// Allocates from the scratch memory.
class Scratch {
 public:
  explicit Scratch(void* memory) : next_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(int64_t count) {
    T* const result = reinterpret_cast<T*>(next_);
    next_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return result;
  }

 private:
  char* next_;
};

}  // namespace
}  // namespace pgolf::ops
