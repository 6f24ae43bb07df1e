// Matrix products on AMX tiles: bfloat16 operands, float32 sums, at most one rounding at the store. Call only if amx_usable().
// Rows and columns are padded with zeros to whole panels, depths to kDepthStep.
#pragma once

#include "../gemm.h"

namespace pgolf::ops::amx {

constexpr int64_t kPanel = 32;      ///< columns (of a right operand) or rows (of a left one) that are packed together
constexpr int64_t kDepthStep = 32;  ///< depths are padded with zeros to a multiple of this

/// Elements of either packed operand: `width` columns of a right or rows of a left one. 64-byte alignment is preferred.
constexpr int64_t packed_size(int64_t depth, int64_t width) {
  return round_up(depth, kDepthStep) * round_up(width, kPanel);
}

template <class T>
using Packing = ops::Packing<T, Bf16>;
using Term = ops::Term<Bf16>;

extern const Packing<Bf16> packing;
/// Floats rounded to nearest even.
extern const Packing<float> packing_rounded;
/// Two consecutive operands: the nearest bfloat16 of every float, and that of the remainder. With a = a1 + a2 and
/// b = b1 + b2, a b is taken as the four products of the parts, which is within 2^-17 |a b| of it.
extern const Packing<float> packing_in_parts;

void multiply(const Term* terms, int64_t term_count, int64_t rows, int64_t columns, const Output& output);

/// Copies what is right of the diagonal of c [size, size] to the left of it; size a multiple of kPanel.
void mirror(Bf16* c, int64_t size);

}  // namespace pgolf::ops::amx
