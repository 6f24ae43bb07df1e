// OpsPath::fast for CPU and CUDA tensors of float32 and bfloat16: autograd functions over kernels/. Each takes
// what its public namesake (include/pgolf/ops) takes, and returns undefined tensors for what it does not cover (another
// device or dtype, mixed dtypes, broadcasting); the caller then uses the reference form.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#ifdef PGOLF_WITH_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "kernels/cuda/kernels.h"
#endif
#include "kernels/cuda/coverage.h"
#include "kernels/select.h"
#include "parallel.h"
#include "pgolf/ops/linear.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rope.h"

namespace pgolf::ops::fast {

at::Tensor rms_norm(const at::Tensor& x, double factor);
std::pair<at::Tensor, at::Tensor> qk_norm_rope_gain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain,
                                                    const RopeTable* table, bool qk_norm);
std::array<at::Tensor, 3> qkv_heads(const at::Tensor& x, const LinearWeight& q, const LinearWeight& k, const LinearWeight& v,
                                    const at::Tensor& q_gain, const RopeTable* table, bool qk_norm);
at::Tensor exclude_value(const at::Tensor& y, const at::Tensor& v);
at::Tensor leaky_squared(const at::Tensor& x, double slope);
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
at::Tensor residual_mix(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix);
at::Tensor scaled_add(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch);
Normed residual_mix_norm(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix, double factor);
Normed scaled_add_norm(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch, double factor);
at::Tensor softcap_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double cap, double gradient);
at::Tensor softcap_token_losses(const at::Tensor& logits, const at::Tensor& targets, double cap);

/// Whether this build has kernels for x's device and dtype.
inline bool covered(const at::Tensor& x) {
#ifdef PGOLF_WITH_CUDA
  const bool device = x.is_cpu() || x.is_cuda();
#else
  const bool device = x.is_cpu();
#endif
  return device && x.layout() == at::kStrided && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

/// Whether x's rows are within one of the CUDA kernels' limits (kernels/cuda/coverage.h); the CPU kernels have none.
inline bool within(int64_t max_bytes, const at::Tensor& x) {
  return !x.is_cuda() || x.size(-1) * static_cast<int64_t>(x.element_size()) <= max_bytes;
}

/// Whether the kernels take heads of `dim` elements, of x's device and dtype.
inline bool covers_head_dim(const at::Tensor& x, int64_t dim) {
  return dim <= kMaxHeadDim && (!x.is_cuda() || dim * static_cast<int64_t>(x.element_size()) <= cuda::kMaxHeadBytes);
}

/// Whether p is a float32 parameter of these sizes on x's device.
inline bool is_parameter(const at::Tensor& p, at::IntArrayRef sizes, const at::Tensor& x) {
  return p.device() == x.device() && p.scalar_type() == at::kFloat && p.sizes() == sizes;
}

template <class... Tensors>
bool needs_gradient(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && (tensors.requires_grad() || ...);
}

/// The kernels compute outside of autograd, so a gradient's own gradient would silently be zero.
inline void refuse_second_derivative(const char* op) {
  TORCH_CHECK(!at::GradMode::is_enabled(), op, " has no second derivative on the fast path; use OPS=reference");
}

/// Element `at` of x's memory; null if x is undefined, which tells the kernels that an output is not needed.
template <class T>
const T* in(const at::Tensor& x, int64_t at = 0) {
  return x.defined() ? static_cast<const T*>(x.const_data_ptr()) + at : nullptr;
}
template <class T>
T* out(const at::Tensor& x, int64_t at = 0) {
  return x.defined() ? static_cast<T*>(x.mutable_data_ptr()) + at : nullptr;
}
/// A [B, T, H, D] tensor whose last dimension is contiguous.
template <class Pointer>
Heads<Pointer> heads_of(Pointer data, const at::Tensor& x) {
  return {data, x.stride(0), x.stride(1), x.stride(2)};
}
inline at::Tensor with_unit_last_stride(const at::Tensor& x) {
  return x.stride(-1) == 1 ? x : x.contiguous();
}

template <class K>
using ElementOf = typename std::decay_t<K>::Element;

/// A float32 parameter rounded to `dtype`, as contiguous float32.
inline at::Tensor rounded_parameter(const at::Tensor& parameter, at::ScalarType dtype) {
  return parameter.to(dtype).to(at::kFloat).contiguous();
}

/// On x's device.
inline at::Tensor empty_float(at::IntArrayRef sizes, const at::Tensor& x) {
  return at::empty(sizes, x.options().dtype(at::kFloat));
}

/// On the CPU threads take blocks of this many rows. A sum over rows is kept per block and the blocks are added up in
/// order, so that it does not depend on the number of threads.
constexpr int64_t kBlockRows = 64;

/// How many partial sums of `width` numbers the kernels for x's device write when they sum over `rows` rows.
inline int64_t partial_sums(const at::Tensor& x, int64_t rows, int64_t width) {
  return x.is_cuda() ? cuda::partial_sums(rows, width) : (rows + kBlockRows - 1) / kBlockRows;
}

/// Calls f(kernels, partial, first row, count) until all rows are covered: kernels for x's device and dtype are
/// Kernels<T> or cuda::Kernels<T>; `partial` is the first partial sum that this call writes. On the CPU one call per block of
/// rows, by several threads when there is enough to do; on CUDA one call for all rows, which writes all partial sums.
template <class F>
void for_row_blocks(const at::Tensor& x, int64_t rows, int64_t width, const F& f) {
  if (rows == 0) return;
  const bool is_float = x.scalar_type() == at::kFloat;
#ifdef PGOLF_WITH_CUDA
  if (x.is_cuda()) {
    const c10::cuda::CUDAGuard guard(x.device());
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
    is_float ? f(cuda::Kernels<float>{stream}, 0, 0, rows) : f(cuda::Kernels<Bf16>{stream}, 0, 0, rows);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return;
  }
#endif
  constexpr int64_t worth_a_thread = 32768;  // elements
  const int64_t chunk = std::max<int64_t>(1, worth_a_thread / (kBlockRows * std::max<int64_t>(1, width)));
  parallel_for_chunks((rows + kBlockRows - 1) / kBlockRows, chunk, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kBlockRows, count = std::min(kBlockRows, rows - first);
      is_float ? f(cpu_kernels<float>(), block, first, count) : f(cpu_kernels<Bf16>(), block, first, count);
    }
  });
}

}  // namespace pgolf::ops::fast
