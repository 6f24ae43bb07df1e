// Matrix products on packed operands: what amx/gemm.h (tiles of bfloat16) and simd/gemm.cpp (vectors of float32) have in common.
// As in kernels.h: raw memory, no LibTorch, no threads; callers split the rows. Sums are float32 and run along the whole depth in
// order, so that they do not depend on how the rows and columns are split.
#pragma once

#include "kernels.h"

namespace pgolf::ops {

constexpr int64_t round_up(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Packs from a matrix with `stride` elements between rows, to panels first_panel .. last_panel-1 of the rows of a left or
/// columns of a right operand, so that threads can split the work. width: all rows or columns of the operand.
template <class T, class Packed>
struct Packing {
  using Pack = void (*)(const T* x, int64_t stride, int64_t depth, int64_t width, Packed* packed, int64_t first_panel,
                        int64_t last_panel);
  Pack left;              ///< from x [rows, depth]
  Pack left_transposed;   ///< from x [depth, rows]
  Pack right;             ///< from x [depth, columns]
  Pack right_transposed;  ///< from x [columns, depth]
};

/// One term of a sum of products: left [rows, depth] * right [depth, columns], both packed.
template <class Packed>
struct Term {
  const Packed *left, *right;
  int64_t depth;
};

/// What is done with the sum s of all terms. c and d are indexed by row and column with their strides (in elements).
enum class Store {
  assign,                  ///< c = s
  add,                     ///< c += s
  combine,                 ///< c = p * d + q * s
  leaky_squared,           ///< d = s; c = d * (d < 0 ? q * d : d)
  leaky_squared_backward,  ///< c = 2 * (d < 0 ? q * d : d) * s
};
enum class Element { bfloat16, float32 };
struct Output {
  Store store;
  Element type;  ///< of c and d
  void* c;
  int64_t c_stride;
  void* d = nullptr;
  int64_t d_stride = 0;
  float p = 0, q = 0;
  bool upper = false;  ///< skip blocks left of the diagonal: the result is symmetric and the caller mirrors it
};

/// Products of float32 operands in vectors. Panels have kLeftPanel rows or kRightPanel columns at every level.
struct VectorGemm {
  static constexpr int64_t kLeftPanel = 24, kRightPanel = 32;

  /// Elements of the packed operands. 64-byte alignment is preferred.
  static constexpr int64_t left_size(int64_t depth, int64_t rows) { return depth * round_up(rows, kLeftPanel); }
  static constexpr int64_t right_size(int64_t depth, int64_t columns) { return depth * round_up(columns, kRightPanel); }

  Packing<float, float> pack;
  Packing<Bf16, float> pack_bfloat16;
  Packing<float, float> pack_rounded;  ///< floats rounded to the nearest bfloat16

  void (*multiply)(const Term<float>* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output);
};

}  // namespace pgolf::ops
