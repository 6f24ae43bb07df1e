// Muon's update of one matrix on the CPU, single-threaded: threads work on different matrices without waiting for one another.
// Called by muon_cpu.cpp, implemented by simd/muon.cpp (vectors) and amx/muon.cpp (tiles of bfloat16). As in kernels.h: raw
// memory.
#pragma once

#include "kernels.h"

namespace pgolf::ops {

constexpr float kMinRowNorm = 1e-7f;

/// T: of Newton-Schulz and of the update before it is added.
template <class T>
struct MuonKernels {
  using Element = T;

  /// Rows and columns must be multiples of it.
  int64_t unit;

  /// buffer = momentum * buffer + gradient; x = gradient + momentum * buffer, rounded. Returns the sum of the squares of x.
  double (*nesterov)(const float* gradient, float* buffer, float momentum, T* x, int64_t count);

  /// The same, but each row of x is divided by max(its norm, 1e-7) before it is rounded.
  double (*nesterov_rows)(const float* gradient, float* buffer, float momentum, T* x, int64_t rows, int64_t columns);

  /// x = x * factor, rounded.
  void (*scale)(T* x, float factor, int64_t count);

  /// The iteration of include/pgolf/ops/newton_schulz.h on x [rows, columns] in place, x already divided by its norm. Where
  /// rows > columns it works on x^T x instead of x x^T, so that nothing is transposed. Each product is rounded once with its
  /// sum (the definition rounds b A, c A, their products and sums one by one), and of the two symmetric products one half is
  /// computed. scratch: of scratch_bytes, 64-byte aligned.
  void (*newton_schulz)(T* x, int64_t rows, int64_t columns, int steps, void* scratch);
  int64_t (*scratch_bytes)(int64_t rows, int64_t columns);

  /// parameter += alpha * (x * factor rounded).
  void (*add_update)(float* parameter, const T* x, float factor, float alpha, int64_t count);
};

/// bfloat16 on tiles; only if amx_usable().
const MuonKernels<Bf16>& amx_muon_kernels();

}  // namespace pgolf::ops
