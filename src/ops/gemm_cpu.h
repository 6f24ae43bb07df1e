// The two ways to multiply matrices on the CPU, under one interface for linear_cpu.cpp. Both pack their
// operands; activations of a step are packed by the thread that needs them, weights once per optimizer step.
#pragma once

#include <torch/types.h>

#include "fast.h"
#include "kernels/amx/gemm.h"

namespace pgolf::ops::cpu {

/// bfloat16 tiles, for activations of bfloat16 or, as products of two parts each, of float32.
struct TileGemm {
  using Packed = Bf16;
  using Term = amx::Term;
  static constexpr at::ScalarType kPackedType = at::kBFloat16;
  static constexpr int64_t kLeftPanel = amx::kPanel, kRightPanel = amx::kPanel;
  static constexpr int kTerms = 4;  ///< maximum number per product

  static int64_t left_size(int64_t depth, int64_t rows, at::ScalarType activations) {
    return parts_of(activations) * amx::packed_size(depth, rows);
  }
  static int64_t right_size(int64_t depth, int64_t columns, at::ScalarType activations) {
    return parts_of(activations) * amx::packed_size(depth, columns);
  }

  /// f(packing, data) for activations.
  template <class F>
  static void with_packing(const at::Tensor& x, const F& f) {
    x.scalar_type() == at::kFloat ? f(amx::packing_in_parts, fast::in<float>(x)) : f(amx::packing, fast::in<Bf16>(x));
  }
  /// The same for a float32 weight that meets activations of bfloat16.
  template <class F>
  static void with_rounding(const at::Tensor& weight, const F& f) {
    f(amx::packing_rounded, fast::in<float>(weight));
  }

  /// Appends left times right; returns the end.
  static Term* add_terms(Term* to, const Bf16* left, int64_t rows, const Bf16* right, int64_t columns, int64_t depth,
                         at::ScalarType activations) {
    if (activations == at::kFloat) {
      const Bf16* const left_rest = left + amx::packed_size(depth, rows);
      const Bf16* const right_rest = right + amx::packed_size(depth, columns);
      *to++ = {left_rest, right_rest, depth};
      *to++ = {left_rest, right, depth};
      *to++ = {left, right_rest, depth};
    }
    *to++ = {left, right, depth};
    return to;
  }

  /// Packed elements of a right operand's columns before one, a multiple of kRightPanel; the same in each of its parts.
  static int64_t columns_before(int64_t column, int64_t depth) { return amx::packed_size(depth, column); }

  static void multiply(const Term* terms, int64_t count, int64_t rows, int64_t columns, const Output& output) {
    amx::multiply(terms, count, rows, columns, output);
  }

 private:
  static int64_t parts_of(at::ScalarType activations) { return activations == at::kFloat ? 2 : 1; }
};

/// float32 vectors, for activations of float32, or of bfloat16 on processors without instructions for that.
struct FloatGemm {
  using Packed = float;
  using Term = ops::Term<float>;
  static constexpr at::ScalarType kPackedType = at::kFloat;
  static constexpr int64_t kLeftPanel = VectorGemm::kLeftPanel, kRightPanel = VectorGemm::kRightPanel;
  static constexpr int kTerms = 1;

  static int64_t left_size(int64_t depth, int64_t rows, at::ScalarType) { return VectorGemm::left_size(depth, rows); }
  static int64_t right_size(int64_t depth, int64_t columns, at::ScalarType) { return VectorGemm::right_size(depth, columns); }

  template <class F>
  static void with_packing(const at::Tensor& x, const F& f) {
    const auto& kernels = gemm_kernels();
    x.scalar_type() == at::kFloat ? f(kernels.pack, fast::in<float>(x)) : f(kernels.pack_bfloat16, fast::in<Bf16>(x));
  }
  template <class F>
  static void with_rounding(const at::Tensor& weight, const F& f) {
    f(gemm_kernels().pack_rounded, fast::in<float>(weight));
  }

  static Term* add_terms(Term* to, const float* left, int64_t, const float* right, int64_t, int64_t depth, at::ScalarType) {
    *to++ = {left, right, depth};
    return to;
  }

  static int64_t columns_before(int64_t column, int64_t depth) { return VectorGemm::right_size(depth, column); }

  static void multiply(const Term* terms, int64_t count, int64_t rows, int64_t columns, const Output& output) {
    gemm_kernels().multiply(terms, count, rows, columns, output);
  }
};

/// Whether there is a product for activations of a dtype on this processor. There is none for bfloat16 on processors that
/// multiply it in vectors only: LibTorch's is used there.
inline bool has_gemm(at::ScalarType activations) {
  if (activations == at::kFloat) return true;
  return activations == at::kBFloat16 && (amx_usable() || cpu_level() < CpuLevel::avx512bf16);
}

/// f(TileGemm()) or f(FloatGemm()), depending on the processor. Requires has_gemm() of the activations' dtype.
template <class F>
void with_gemm(const F& f) {
  amx_usable() ? f(TileGemm()) : f(FloatGemm());
}

}  // namespace pgolf::ops::cpu
