// OpsPath::fast for CPU tensors of float32 and bfloat16: autograd functions over kernels/. Each takes what its public
// namesake (include/pgolf/ops) takes, and returns an undefined tensor for what it does not cover (another device or
// dtype, mixed dtypes, broadcasting); the caller then uses the reference form.
#pragma once

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "kernels/kernels.h"
#include "pgolf/ops/rope.h"

namespace pgolf::ops::cpu {

at::Tensor rms_norm(const at::Tensor& x);
std::pair<at::Tensor, at::Tensor> qk_norm_rope_gain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain,
                                                    const RopeTable* table);
at::Tensor relu_squared(const at::Tensor& x);
at::Tensor residual_mix(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix);
at::Tensor scaled_add(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch);
at::Tensor softcap_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double cap);

inline bool covered(const at::Tensor& x) {
  return x.is_cpu() && x.layout() == at::kStrided && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

inline bool is_parameter(const at::Tensor& x, at::IntArrayRef sizes) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.sizes() == sizes;
}

template <class... Tensors>
bool needs_gradient(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && (tensors.requires_grad() || ...);
}

/// The kernels compute outside of autograd, so a gradient's own gradient would silently be zero.
inline void refuse_second_derivative(const char* op) {
  TORCH_CHECK(!at::GradMode::is_enabled(), op, " has no second derivative on the fast path; use OPS=reference");
}

/// f(kernels of x's dtype), a Kernels<float> or Kernels<Bf16>.
template <class F>
void with_kernels(const at::Tensor& x, F&& f) {
  if (x.scalar_type() == at::kFloat) {
    f(cpu_kernels<float>());
  } else {
    f(cpu_kernels<Bf16>());
  }
}

template <class T>
const T* in(const at::Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}
template <class T>
T* out(const at::Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}
template <class K>
using ElementOf = typename std::decay_t<K>::Element;

/// A float32 parameter with the values that it has after a cast to `dtype`, dense.
inline at::Tensor rounded_parameter(const at::Tensor& parameter, at::ScalarType dtype) {
  return parameter.to(dtype).to(at::kFloat).contiguous();
}

inline at::Tensor empty_float(at::IntArrayRef sizes) {
  return at::empty(sizes, at::TensorOptions().dtype(at::kFloat));
}

/// Rows are handed out in blocks of this many. A sum over rows is kept per block and the blocks are added up in order,
/// so that it does not depend on the number of threads.
constexpr int64_t kBlockRows = 64;

inline int64_t block_count(int64_t rows) {
  return (rows + kBlockRows - 1) / kBlockRows;
}

/// f(block, first row, rows) for all blocks, by several threads when there is enough to do.
template <class F>
void for_row_blocks(int64_t rows, int64_t width, const F& f) {
  constexpr int64_t worth_a_thread = 32768;  // elements
  const int64_t grain = std::max<int64_t>(1, worth_a_thread / (kBlockRows * std::max<int64_t>(1, width)));
  at::parallel_for(0, block_count(rows), grain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kBlockRows;
      f(block, first, std::min(kBlockRows, rows - first));
    }
  });
}

}  // namespace pgolf::ops::cpu
