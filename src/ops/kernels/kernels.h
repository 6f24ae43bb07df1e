// The arithmetic of OpsPath::fast on the CPU: loops over raw memory, without LibTorch, without threads.
// simd/kernels.cpp is compiled once per instruction set; select.h picks at run time. All arithmetic is float32
// whatever the storage type, and every output is rounded once. Tensors are dense unless strides are given.
#pragma once

#include <cstdint>

namespace pgolf::ops {

/// bfloat16 as it lies in memory.
struct Bf16 {
  uint16_t bits;
};

/// Queries or keys with unit stride in the last dimension; batch, time and heads in any order.
template <class Pointer>
struct Heads {
  Pointer data;
  int64_t batch_stride, time_stride, head_stride;  ///< in elements
};

struct HeadShape {
  int64_t time, heads, dim;  ///< dim <= kMaxHeadDim
  bool normalize = true;     ///< false: rms_norm is skipped and every rstd is 1
};

/// Query heads in groups that share a value head.
struct GroupShape {
  int64_t time, kv_heads, group, dim;  ///< kv_heads * group query heads; dim <= kMaxHeadDim
};

constexpr int64_t kMaxHeadDim = 512;

/// The length that exclude_value takes a shorter value to have.
constexpr float kMinValueLength = 1e-12f;

/// Rotation of dims 0 .. 2*half-1 by the angles of each time, in pairs (i, i + half) or (2i, 2i + 1); half == 0: none.
struct RotationTable {
  const float* cos = nullptr;  ///< [time, half]
  const float* sin = nullptr;
  int64_t half = 0;
  bool interleaved = false;
};

/// Backward of an op whose second output is factor * rms_norm(y) of its first, y: that output's gradient, and y and 1 / rms as
/// the forward pass wrote them. dnormed null: there was no second output.
template <class T>
struct NormedOutput {
  const T* dnormed = nullptr;   ///< [rows, width]
  const T* y = nullptr;         ///< [rows, width]
  const float* rstd = nullptr;  ///< [rows]
  float factor = 1;
};

/// Formulas and signs: include/pgolf/ops/*.h. "d" marks the gradient of the loss in the variable that follows.
template <class T>
struct Kernels {
  using Element = T;

  /// x [rows, width] -> y, times factor; rstd [rows] = 1 / sqrt(mean(x^2) + eps) is written unless null.
  void (*rms_norm)(const T* x, float factor, T* y, float* rstd, int64_t rows, int64_t width);
  void (*rms_norm_backward)(const T* dy, const T* x, const float* rstd, float factor, T* dx, int64_t rows, int64_t width);

  /// y = gain[head] * rotate(rms_norm(x)) for rows first .. first+rows-1, row = batch entry * time + t; gain null: 1;
  /// rstd [all rows, heads] unless null.
  void (*norm_rotate)(Heads<const T*> x, Heads<T*> y, float* rstd, RotationTable table, const float* gain, HeadShape shape,
                      int64_t first, int64_t rows);
  /// dx, and dgain [heads] (unless null) summed over these rows only.
  void (*norm_rotate_backward)(Heads<const T*> dy, Heads<const T*> x, const float* rstd, RotationTable table, const float* gain,
                               Heads<T*> dx, float* dgain, HeadShape shape, int64_t first, int64_t rows);

  /// rest = y - (y . n) n for rows as norm_rotate has them, n = v / max(|v|, kMinValueLength).
  void (*exclude_value)(Heads<const T*> y, Heads<const T*> v, Heads<T*> rest, GroupShape shape, int64_t first, int64_t rows);
  void (*exclude_value_backward)(Heads<const T*> drest, Heads<const T*> y, Heads<const T*> v, Heads<T*> dy, Heads<T*> dv,
                                 GroupShape shape, int64_t first, int64_t rows);

  /// slope_squared: the square of the slope below zero.
  void (*leaky_squared)(const T* x, float slope_squared, T* y, int64_t count);
  void (*leaky_squared_backward)(const T* dy, const T* x, float slope_squared, T* dx, int64_t count);

  /// y = silu(gate) * up.
  void (*swiglu)(const T* gate, const T* up, T* y, int64_t count);
  void (*swiglu_backward)(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t count);

  /// mix, dmix [2, width]; dmix is the sum over these rows only. x, x0, y [rows, width]. normed and rstd are what
  /// rms_norm of y and factor writes, unless normed is null.
  void (*residual_mix)(const T* x, const T* x0, const float* mix, T* y, float factor, T* normed, float* rstd, int64_t rows,
                       int64_t width);
  void (*residual_mix_backward)(const T* dy, NormedOutput<T> normed, const T* x, const T* x0, const float* mix, T* dx, T* dx0,
                                float* dmix, int64_t rows, int64_t width);

  /// scale, dscale [width]; dscale is the sum over these rows only. normed and rstd as for residual_mix. dx is written only
  /// with a second output: without one it is dy.
  void (*scaled_add)(const T* x, const float* scale, const T* branch, T* y, float factor, T* normed, float* rstd, int64_t rows,
                     int64_t width);
  void (*scaled_add_backward)(const T* dy, NormedOutput<T> normed, const float* scale, const T* branch, T* dx, T* dbranch,
                              float* dscale, int64_t rows, int64_t width);

  /// loss [rows] = -log softmax(cap * tanh(logits / cap))[target], with cap 0 of the logits themselves; gradient (unless null) =
  /// grad_scale * dloss/dlogits. scratch holds 2 * vocab floats. Targets must lie in 0 .. vocab-1.
  void (*softcap_cross_entropy)(const T* logits, const int64_t* targets, float cap, float grad_scale, float* loss, T* gradient,
                                float* scratch, int64_t rows, int64_t vocab);

  /// x *= *factor.
  void (*scale)(T* x, const float* factor, int64_t count);
};

}  // namespace pgolf::ops
