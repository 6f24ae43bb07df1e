// What the fast path derives from a linear layer's weight, and when it is stale.
#pragma once

#include <torch/types.h>

#include <vector>

#include "pgolf/ops/linear.h"

namespace pgolf::ops {

/// Each form is made on first use and kept until the weight's storage or version or the activations' dtype changes.
class WeightForms {
 public:
  /// The weight in the activations' dtype.
  const at::Tensor& cast(const at::Tensor& weight, at::ScalarType activations);
  /// The rows of several weights, concatenated. Stored apart from the other forms; call it on the forms of only one of the
  /// weights.
  const at::Tensor& joined(const std::vector<at::Tensor>& weights, at::ScalarType activations);
  /// Packed right operands for gemm_cpu.h: of x W^T, and of dy W. One-dimensional.
  const at::Tensor& forward_operand(const at::Tensor& weight, at::ScalarType activations);
  const at::Tensor& backward_operand(const at::Tensor& weight, at::ScalarType activations);

 private:
  /// What a form was made from.
  struct State {
    const void* data = nullptr;
    int64_t version = 0;
    at::ScalarType activations = at::kFloat;
    bool operator==(const State&) const = default;
  };
  void refresh(const at::Tensor& weight, at::ScalarType activations);

  State state_;
  at::Tensor cast_, forward_, backward_;
  std::vector<State> joined_states_;
  at::Tensor joined_;
};

/// linear, linear_qkv and leaky_squared_mlp over gemm_cpu.h; undefined tensors for what is not covered: other devices, dtypes
/// other than bfloat16 and float32, bfloat16 where the processor multiplies it in vectors only. On tiles float32 products are
/// within 2^-17 of each term (packing_in_parts).
namespace cpu {
bool covers_linear(const at::Tensor& x, std::initializer_list<LinearWeight> weights);
at::Tensor linear(const at::Tensor& x, const LinearWeight& weight);
std::array<at::Tensor, 3> linear_qkv(const at::Tensor& x, const LinearWeight& q, const LinearWeight& k, const LinearWeight& v);
at::Tensor leaky_squared_mlp(const at::Tensor& x, const LinearWeight& fc, const LinearWeight& proj, double slope);
}  // namespace cpu

/// Where backward adds a float32 weight's gradient: W.grad(), allocated if needed. fresh: it is uninitialized.
struct GradientSlot {
  at::Tensor gradient;
  bool fresh;
};
GradientSlot gradient_slot(const at::Tensor& weight);

/// W.grad() += dy^T x for the float32 weights whose outputs lie side by side in dy [rows, sum of their heights]; x [rows, in]
/// of dy's dtype. Gradients allocated here are consecutive in memory, so that one product writes all of them.
void accumulate_gradients(const std::vector<at::Tensor>& weights, const at::Tensor& dy, const at::Tensor& x);

}  // namespace pgolf::ops
