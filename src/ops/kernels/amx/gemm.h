// Matrix products on AMX tiles: bfloat16 operands, float32 sums, at most one rounding at the store. Call only if amx_usable().
// Operands are packed first, rows and columns padded with zeros to whole panels. Single-threaded: callers split the rows.
#pragma once

#include "../kernels.h"

namespace pgolf::ops::amx {

constexpr int64_t kPanel = 32;      ///< columns (of a right operand) or rows (of a left one) that are packed together
constexpr int64_t kDepthStep = 32;  ///< depths are padded with zeros to a multiple of this

constexpr int64_t round_up(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Elements of either packed operand: `width` columns of a right or rows of a left one. 64-byte alignment is wanted.
constexpr int64_t packed_size(int64_t depth, int64_t width) {
  return round_up(depth, kDepthStep) * round_up(width, kPanel);
}

/// All packing is from a matrix with `stride` elements between rows, to panels first_panel .. last_panel-1 of kPanel rows of a
/// left or columns of a right operand, so that threads can share it. width: all rows or columns of the operand.
template <class T>
struct Packing {
  using Pack = void (*)(const T* x, int64_t stride, int64_t depth, int64_t width, Bf16* packed, int64_t first_panel,
                        int64_t last_panel);
  Pack left;              ///< from x [rows, depth]
  Pack left_transposed;   ///< from x [depth, rows]
  Pack right;             ///< from x [depth, columns]
  Pack right_transposed;  ///< from x [columns, depth]
};
extern const Packing<Bf16> packing;
/// Floats rounded to nearest even.
extern const Packing<float> packing_rounded;
/// Two operands, one behind the other: the nearest bfloat16 of every float, and of what that leaves. With a = a1 + a2 and
/// b = b1 + b2, a b is taken as the four products of the parts, which is within 2^-17 |a b| of it.
extern const Packing<float> packing_in_parts;

/// One term of a sum of products: left [rows, depth] * right [depth, columns], both packed.
struct Term {
  const Bf16 *left, *right;
  int64_t depth;
};

/// What becomes of the sum s of all terms. c and d are indexed by row and column with their strides (in elements).
enum class Store {
  assign,                 ///< c = s
  add,                    ///< c += s
  combine,                ///< c = p * d + q * s
  relu_squared,           ///< d = s; c = max(d, 0)^2
  relu_squared_backward,  ///< c = 2 max(d, 0) s
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
  bool upper = false;  ///< leave out the blocks left of the diagonal: the result is symmetric, see mirror()
};

void multiply(const Term* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output);

/// Copies what is right of the diagonal of c [size, size] to the left of it; size a multiple of kPanel.
void mirror(Bf16* c, int64_t size);

}  // namespace pgolf::ops::amx
