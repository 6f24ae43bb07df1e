// The arithmetic of OpsPath::fast on CUDA devices. Every launcher takes the arguments of the CPU kernel of the same name
// (../kernels.h, which has the formulas) as device pointers, and differs in this: it only enqueues work on its stream;
// rows are all rows; and a sum over rows is left as partial_sums() partial sums that follow one another. They are added up in
// a fixed order, so results do not depend on how the device schedules its blocks. float32 arithmetic, one rounding at the store.
// Rows that lie on 16-byte boundaries are read and written 16 bytes at a time, others element by element.
// A launch that fails leaves its error for cudaGetLastError().
#pragma once

#include <cuda_runtime_api.h>

#include "../kernels.h"
#include "coverage.h"

namespace pgolf::ops::cuda {

template <class T>
struct ResidualKernels {
  cudaStream_t stream;

  void rms_norm(const T* x, float factor, T* y, float* rstd, int64_t rows, int64_t width) const;
  void rms_norm_backward(const T* dy, const T* x, const float* rstd, float factor, T* dx, int64_t rows, int64_t width) const;
  void residual_mix(const T* x, const T* x0, const float* mix, T* y, float factor, T* normed, float* rstd, int64_t rows,
                    int64_t width) const;
  void residual_mix_backward(const T* dy, NormedOutput<T> normed, const T* x, const T* x0, const float* mix, T* dx, T* dx0,
                             float* dmix, int64_t rows, int64_t width) const;
  void scaled_add(const T* x, const float* scale, const T* branch, T* y, float factor, T* normed, float* rstd, int64_t rows,
                  int64_t width) const;
  void scaled_add_backward(const T* dy, NormedOutput<T> normed, const float* scale, const T* branch, T* dx, T* dbranch,
                           float* dscale, int64_t rows, int64_t width) const;
};

template <class T>
struct RopeKernels {
  cudaStream_t stream;

  void norm_rotate(Heads<const T*> x, Heads<T*> y, float* rstd, RotationTable table, const float* gain, HeadShape shape,
                   int64_t first, int64_t rows) const;
  void norm_rotate_backward(Heads<const T*> dy, Heads<const T*> x, const float* rstd, RotationTable table, const float* gain,
                            Heads<T*> dx, float* dgain, HeadShape shape, int64_t first, int64_t rows) const;
};

template <class T>
struct ExclusiveKernels {
  cudaStream_t stream;

  void exclude_value(Heads<const T*> y, Heads<const T*> v, Heads<T*> rest, GroupShape shape, int64_t first, int64_t rows) const;
  void exclude_value_backward(Heads<const T*> drest, Heads<const T*> y, Heads<const T*> v, Heads<T*> dy, Heads<T*> dv,
                              GroupShape shape, int64_t first, int64_t rows) const;
};

template <class T>
struct MlpKernels {
  cudaStream_t stream;

  void leaky_squared(const T* x, float slope_squared, T* y, int64_t count) const;
  void leaky_squared_backward(const T* dy, const T* x, float slope_squared, T* dx, int64_t count) const;
  void swiglu(const T* gate, const T* up, T* y, int64_t count) const;
  void swiglu_backward(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t count) const;
  void scale(T* x, const float* factor, int64_t count) const;
};

template <class T>
struct CrossEntropyKernels {
  cudaStream_t stream;

  /// A row whose target is not in 0 .. vocab-1 gets the loss NaN: the host does not check targets.
  void softcap_cross_entropy(const T* logits, const int64_t* targets, float cap, float grad_scale, float* loss, T* gradient,
                             int64_t rows, int64_t vocab) const;
};

/// T float or Bf16.
template <class T>
struct Kernels : ResidualKernels<T>, RopeKernels<T>, ExclusiveKernels<T>, MlpKernels<T>, CrossEntropyKernels<T> {
  using Element = T;
  explicit Kernels(cudaStream_t stream)
      : ResidualKernels<T>{stream},
        RopeKernels<T>{stream},
        ExclusiveKernels<T>{stream},
        MlpKernels<T>{stream},
        CrossEntropyKernels<T>{stream} {}
};

}  // namespace pgolf::ops::cuda
