// Matrix products of packed float32 operands in vectors. Compiled once per instruction set like kernels.cpp, under the same
// rules.
//
// A tile of the result, kRows by two vectors, stays in registers over the whole depth: per step one row of the right
// operand's strip is loaded and one value of each row of the left operand is broadcast. Both lie in memory in that order.
#include "../gemm.h"

#include "lanes.h"

namespace pgolf::ops {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kRows = 12;  ///< of 32 registers 24 hold sums
#else
constexpr int64_t kRows = 6;  ///< of 16 registers 12 hold sums
#endif
constexpr int64_t kStrip = 2 * kLanes;  ///< columns of a tile
static_assert(VectorGemm::kLeftPanel % kRows == 0 && VectorGemm::kRightPanel % kStrip == 0);

/// Four values: every kRows and kStrip has room for them, and transposing a square of them takes few instructions at every level.
using Quad = float __attribute__((vector_size(16)));
using QuadBits = uint32_t __attribute__((vector_size(16)));

struct Exact {
  static PGOLF_INLINE Quad of(const float* from) {
    Quad result;
    __builtin_memcpy(&result, from, sizeof(result));
    return result;
  }
  static PGOLF_INLINE Quad of(const Bf16* from) {
    uint16_t bits __attribute__((vector_size(8)));
    __builtin_memcpy(&bits, from, sizeof(bits));
    return (Quad)(__builtin_convertvector(bits, QuadBits) << 16);
  }
};
struct Rounded {
  static PGOLF_INLINE Quad of(const float* from) {
    const Quad x = Exact::of(from);
    const QuadBits bits = (QuadBits)x;
    return x == x ? (Quad)((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u) : x;
  }
};
PGOLF_INLINE void store_quad(float* to, Quad x) {
  __builtin_memcpy(to, &x, sizeof(x));
}

/// f(i) for the first of each four of kWidth values; the last four overlap the ones before if kWidth is not a multiple.
template <int64_t kWidth, class F>
PGOLF_INLINE void for_quads(const F& f) {
#pragma GCC unroll 8
  for (int64_t i = 0; i < kWidth; i += 4) f(min(i, kWidth - 4));
}

/// A panel from a matrix whose rows are steps of depth, kWidth values of each to a tile; zeros after `count` of kPanel. One pass:
/// in rows a power of two apart, what a second one reads would no longer be in the first-level cache.
template <int64_t kWidth, int64_t kPanel, class Convert, class T>
void pack_along(const T* x, int64_t stride, int64_t depth, int64_t count, float* to) {
  constexpr int64_t kAhead = 8;
  for (int64_t step = 0; step < depth; ++step) {
    const T* from = x + step * stride;
    const T* const next = from + kAhead * stride;
    __builtin_prefetch(next);
    __builtin_prefetch(next + kPanel - 1);
    T whole[kPanel];
    if (count < kPanel) {
      for (int64_t i = 0; i < kPanel; ++i) whole[i] = i < count ? from[i] : T{};
      from = whole;
    }
#pragma GCC unroll 4
    for (int64_t tile = 0; tile < kPanel; tile += kWidth) {
      for_quads<kWidth>([&](int64_t i) PGOLF_INLINE_LAMBDA {
        store_quad(to + tile * depth + step * kWidth + i, Convert::of(from + tile + i));
      });
    }
  }
}

PGOLF_INLINE void transpose(Quad (&rows)[4]) {
  const QuadBits low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
  const Quad a = __builtin_shuffle(rows[0], rows[1], low), b = __builtin_shuffle(rows[2], rows[3], low);
  const Quad c = __builtin_shuffle(rows[0], rows[1], high), d = __builtin_shuffle(rows[2], rows[3], high);
  rows[0] = __builtin_shuffle(a, b, first);
  rows[1] = __builtin_shuffle(a, b, second);
  rows[2] = __builtin_shuffle(c, d, first);
  rows[3] = __builtin_shuffle(c, d, second);
}

/// A tile from `count` rows of a matrix, each with all steps of depth; zeros for the rest of kWidth.
template <int64_t kWidth, class Convert, class T>
void pack_across(const T* x, int64_t stride, int64_t depth, int64_t count, float* to) {
  constexpr int64_t kBlock = 16;  // steps at a time: a cache line of each row
  constexpr int64_t kAhead = 4 * kBlock;
  for (int64_t start = 0; start < depth; start += kBlock) {
    const int64_t steps = min(kBlock, depth - start), ahead = start + kAhead;
    const T* const next = x + (ahead < depth ? ahead : kWidth * stride + ahead - depth);
    for (int64_t row = 0; row < kWidth; ++row) __builtin_prefetch(next + row * stride);
    for_quads<kWidth>([&](int64_t i) PGOLF_INLINE_LAMBDA {
      const T* from[4];
      T whole[4][kBlock];
      for (int64_t row = 0; row < 4; ++row) {
        from[row] = x + (i + row) * stride + start;
        if (steps == kBlock && i + row < count) continue;
        for (int64_t step = 0; step < kBlock; ++step) {
          whole[row][step] = step < steps && i + row < count ? from[row][step] : T{};
        }
        from[row] = whole[row];
      }
      for (int64_t step = 0; step < steps; step += 4) {
        Quad rows[4] = {Convert::of(from[0] + step), Convert::of(from[1] + step), Convert::of(from[2] + step),
                        Convert::of(from[3] + step)};
        transpose(rows);
        for (int64_t k = 0; k < min(int64_t{4}, steps - step); ++k) store_quad(to + (start + step + k) * kWidth + i, rows[k]);
      }
    });
  }
}

/// Tiles of kWidth rows or columns; kPanel of them make a panel.
template <int64_t kWidth, int64_t kPanel, bool kAcross, class Convert, class T>
void pack(const T* x, int64_t stride, int64_t depth, int64_t width, float* packed, int64_t first_panel, int64_t last_panel) {
  const int64_t end = min(last_panel * kPanel, width);
  for (int64_t first = first_panel * kPanel; first < end; first += kAcross ? kWidth : kPanel) {
    if constexpr (kAcross) {
      pack_across<kWidth, Convert>(x + first * stride, stride, depth, min(kWidth, width - first), packed + first * depth);
    } else {
      pack_along<kWidth, kPanel, Convert>(x + first, stride, depth, min(kPanel, width - first), packed + first * depth);
    }
  }
}

template <class T, class Convert>
constexpr Packing<T, float> packing_of() {
  return {pack<kRows, VectorGemm::kLeftPanel, true, Convert, T>, pack<kRows, VectorGemm::kLeftPanel, false, Convert, T>,
          pack<kStrip, VectorGemm::kRightPanel, false, Convert, T>, pack<kStrip, VectorGemm::kRightPanel, true, Convert, T>};
}

/// x, times q where it is negative. NaN propagates.
PGOLF_INLINE Floats leaky(Floats x, float q) {
  return x < Floats{} ? q * x : x;
}

/// A value after a round trip through memory.
template <class T>
PGOLF_INLINE Floats as_stored(Floats x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return x;
  } else {
    return from_bf16(to_bf16(x));
  }
}

template <Store kStore, class T, class Part>
PGOLF_INLINE void store_sum(Floats sum, T* c, T* d, const Output& output, Part part) {
  if constexpr (kStore == Store::assign) {
    store(c, sum, part);
  } else if constexpr (kStore == Store::add) {
    store(c, load(c, part) + sum, part);
  } else if constexpr (kStore == Store::combine) {
    store(c, output.p * load(d, part) + output.q * sum, part);
  } else if constexpr (kStore == Store::leaky_squared) {
    store(d, sum, part);
    const Floats x = as_stored<T>(sum);
    store(c, x * leaky(x, output.q), part);
  } else {
    store(c, 2 * leaky(load(d, part), output.q) * sum, part);
  }
}

/// The tile at a row and a column, multiples of kRows and kStrip.
template <Store kStore, class T>
void multiply_tile(const Term<float>* terms, int64_t term_count, int64_t row, int64_t rows, int64_t column, int64_t columns,
                   const Output& output) {
  Floats sum[kRows][2] = {};
  for (int64_t term = 0; term < term_count; ++term) {
    const int64_t depth = terms[term].depth;
    const float* left = terms[term].left + row * depth;
    const float* right = terms[term].right + column * depth;
    for (int64_t step = 0; step < depth; ++step, left += kRows, right += kStrip) {
      const Floats b0 = load(right), b1 = load(right + kLanes);
#pragma GCC unroll 12
      for (int64_t i = 0; i < kRows; ++i) {
        const Floats a = all(left[i]);
        sum[i][0] += a * b0;
        sum[i][1] += a * b1;
      }
    }
  }
  const int64_t row_count = min(kRows, rows - row), column_count = columns - column;
  T* c = static_cast<T*>(output.c) + row * output.c_stride + column;
  T* d = static_cast<T*>(output.d) + row * output.d_stride + column;
#pragma GCC unroll 12
  for (int64_t i = 0; i < kRows; ++i) {
    if (i >= row_count) break;
    if (column_count >= kStrip) {
      store_sum<kStore>(sum[i][0], c, d, output, All{});
      store_sum<kStore>(sum[i][1], c + kLanes, d + kLanes, output, All{});
    } else {
      for_lanes(column_count, [&](int64_t lane, auto part) PGOLF_INLINE_LAMBDA {
        store_sum<kStore>(lane == 0 ? sum[i][0] : sum[i][1], c + lane, d + lane, output, part);
      });
    }
    c += output.c_stride;
    d += output.d_stride;
  }
}

/// A group of rows stays in the second-level cache over all strips of columns, a strip in the first-level cache over all rows of
/// the group.
constexpr int64_t kRowGroup = 96;

template <Store kStore, class T>
void multiply_all(const Term<float>* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output) {
  for (int64_t group = 0; group < rows; group += kRowGroup) {
    const int64_t group_end = min(group + kRowGroup, rows);
    for (int64_t column = 0; column < columns; column += kStrip) {
      for (int64_t row = group; row < group_end; row += kRows) {
        if (output.upper && column + kStrip <= row) break;
        multiply_tile<kStore, T>(terms, term_count, row, rows, column, columns, output);
      }
    }
  }
}

template <class T>
void multiply_into(const Term<float>* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output) {
  switch (output.store) {
    case Store::assign:
      return multiply_all<Store::assign, T>(terms, term_count, rows, columns, output);
    case Store::add:
      return multiply_all<Store::add, T>(terms, term_count, rows, columns, output);
    case Store::combine:
      return multiply_all<Store::combine, T>(terms, term_count, rows, columns, output);
    case Store::leaky_squared:
      return multiply_all<Store::leaky_squared, T>(terms, term_count, rows, columns, output);
    case Store::leaky_squared_backward:
      return multiply_all<Store::leaky_squared_backward, T>(terms, term_count, rows, columns, output);
  }
}

void multiply(const Term<float>* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output) {
  if (output.type == Element::float32) {
    multiply_into<float>(terms, term_count, rows, columns, output);
  } else {
    multiply_into<Bf16>(terms, term_count, rows, columns, output);
  }
}

}  // namespace

namespace PGOLF_ISA {
extern const VectorGemm gemm_kernels;
constexpr VectorGemm gemm_kernels{packing_of<float, Exact>(), packing_of<Bf16, Exact>(), packing_of<float, Rounded>(), multiply};
}  // namespace PGOLF_ISA

}  // namespace pgolf::ops
