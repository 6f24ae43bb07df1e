// The arithmetic of OpsPath::fast on the CPU: loops over raw memory, without LibTorch, without threads.
// kernels.cpp is compiled once per instruction set; cpu_kernels() picks at run time. All arithmetic is float32
// whatever the storage type, and every output is rounded once. Tensors are dense unless strides are given.
#pragma once

#include <cstdint>

namespace pgolf::ops {

/// bfloat16 as it lies in memory.
struct Bf16 {
  uint16_t bits;
};

/// [time][head][lane] with unit lane stride: one batch entry of queries or keys, in either layout.
template <class Pointer>
struct Heads {
  Pointer data;
  int64_t time_stride, head_stride;  ///< in elements
};

constexpr int64_t kMaxHeadDim = 512;

/// Rotation of lanes 0 .. 2*half-1; half == 0: none.
struct RotationTable {
  const float* cos = nullptr;  ///< [T, half]
  const float* sin = nullptr;
  int64_t half = 0;
};

/// Formulas and signs: include/pgolf/ops/*.h. "d" marks the gradient of the loss in the variable that follows.
template <class T>
struct Kernels {
  using Element = T;

  /// x [rows, width] -> y; rstd [rows] = 1 / sqrt(mean(x^2) + eps) is written unless null.
  void (*rms_norm)(const T* x, T* y, float* rstd, int64_t rows, int64_t width);
  void (*rms_norm_backward)(const T* dy, const T* x, const float* rstd, T* dx, int64_t rows, int64_t width);

  /// y = gain[head] * rotate(rms_norm(x)) at times first .. last-1; gain null: 1; rstd [T, heads] unless null;
  /// dim <= kMaxHeadDim.
  void (*norm_rotate)(Heads<const T*> x, Heads<T*> y, float* rstd, RotationTable table, const float* gain, int64_t heads,
                      int64_t dim, int64_t first, int64_t last);
  /// dx, and dgain [heads] (null with gain) summed over these times only.
  void (*norm_rotate_backward)(Heads<const T*> dy, Heads<const T*> x, const float* rstd, RotationTable table, const float* gain,
                               Heads<T*> dx, float* dgain, int64_t heads, int64_t dim, int64_t first, int64_t last);

  void (*relu_squared)(const T* x, T* y, int64_t count);
  void (*relu_squared_backward)(const T* dy, const T* x, T* dx, int64_t count);

  /// mix, dmix [2, width]; dmix is the sum over these rows only. x, x0, y [rows, width].
  void (*residual_mix)(const T* x, const T* x0, const float* mix, T* y, int64_t rows, int64_t width);
  void (*residual_mix_backward)(const T* dy, const T* x, const T* x0, const float* mix, T* dx, T* dx0, float* dmix, int64_t rows,
                                int64_t width);

  /// scale, dscale [width]; dscale is the sum over these rows only.
  void (*scaled_add)(const T* x, const float* scale, const T* branch, T* y, int64_t rows, int64_t width);
  void (*scaled_add_backward)(const T* dy, const float* scale, const T* branch, T* dbranch, float* dscale, int64_t rows,
                              int64_t width);

  /// loss [rows] = -log softmax(cap * tanh(logits / cap))[target]; gradient (unless null) = grad_scale * dloss/dlogits.
  /// scratch holds 2 * vocab floats. Targets must lie in 0 .. vocab-1.
  void (*softcap_cross_entropy)(const T* logits, const int64_t* targets, float cap, float grad_scale, float* loss, T* gradient,
                                float* scratch, int64_t rows, int64_t vocab);
};

enum class Isa { baseline, avx2, avx512 };

/// The widest instruction set that both this build and this processor have.
Isa best_isa();

/// T float or Bf16. isa must not exceed best_isa().
template <class T>
const Kernels<T>& cpu_kernels(Isa isa = best_isa());

}  // namespace pgolf::ops
