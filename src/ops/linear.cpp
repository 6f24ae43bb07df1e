#include "pgolf/ops/linear.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>

#include "cpu_ops.h"
#include "pgolf/ops/mlp.h"
#include "weight_forms.h"

namespace pgolf::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

/// W.grad() += dy^T x, for dy [rows, out] and x [rows, in] of one dtype and a float32 weight.
void accumulate_gradient(const at::Tensor& weight, const at::Tensor& dy, const at::Tensor& x) {
  const auto [gradient, fresh] = gradient_slot(weight);
  at::Tensor into = gradient;
  const int beta = fresh ? 0 : 1;
  if (x.scalar_type() == at::kFloat) {
    at::addmm_out(into, gradient, dy.t(), x, beta, /*alpha=*/1);
  } else if (x.is_cuda()) {
    at::addmm_out(into, gradient, dy.t(), x, /*out_dtype=*/at::kFloat, beta, /*alpha=*/1);
  } else {
    const auto product = at::mm(dy.t(), x);
    fresh ? gradient.copy_(product) : gradient.add_(product);
  }
}

/// Any device and dtype; the gradient of a float32 weight goes straight to W.grad().
struct AccumulatingLinear : Function<AccumulatingLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& cast) {
    context->save_for_backward({x, weight, cast});
    return at::linear(x, cast);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    cpu::refuse_second_derivative("linear");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &cast = saved[2];
    const auto dy = gradients[0].reshape({-1, cast.size(0)});
    at::Tensor dx;
    if (context->needs_input_grad(0)) dx = at::mm(dy, cast).view(x.sizes());
    if (context->needs_input_grad(1)) accumulate_gradient(weight, dy, x.reshape({-1, cast.size(1)}));
    return {dx, at::Tensor(), at::Tensor()};
  }
};

/// The same for three weights of one input, as one product with all their rows.
struct AccumulatingQkv : Function<AccumulatingQkv> {
  static tensor_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& wq, const at::Tensor& wk,
                             const at::Tensor& wv, const at::Tensor& joined) {
    context->save_for_backward({x, wq, wk, wv, joined});
    return at::split_with_sizes(at::linear(x, joined), {wq.size(0), wk.size(0), wv.size(0)}, -1);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    cpu::refuse_second_derivative("linear_qkv");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &joined = saved[4];
    const auto dy = at::cat(gradients, -1).view({-1, joined.size(0)}), rows = x.reshape({-1, joined.size(1)});
    tensor_list results(5);
    if (context->needs_input_grad(0)) results[0] = at::mm(dy, joined).view(x.sizes());
    int64_t first = 0;
    for (size_t i = 1; i < 4; ++i) {
      const int64_t count = saved[i].size(0);
      if (context->needs_input_grad(i)) accumulate_gradient(saved[i], dy.narrow(1, first, count), rows);
      first += count;
    }
    return results;
  }
};

}  // namespace

GradientSlot gradient_slot(const at::Tensor& weight) {
  auto& gradient = weight.mutable_grad();
  const bool fresh = !gradient.defined();
  if (fresh) gradient = at::empty_like(weight.detach());
  return {gradient, fresh};
}

void mark_changed(const at::Tensor& parameter) {
  parameter.unsafeGetTensorImpl()->bump_version();
}

LinearWeight::LinearWeight(at::Tensor weight) : value(std::move(weight)), forms(std::make_shared<WeightForms>()) {}

void WeightForms::refresh(const at::Tensor& weight, at::ScalarType activations) {
  const State now{weight.const_data_ptr(), weight._version(), activations};
  if (now == state_) return;
  state_ = now;
  cast_ = forward_ = backward_ = at::Tensor();
}

const at::Tensor& WeightForms::cast(const at::Tensor& weight, at::ScalarType activations) {
  refresh(weight, activations);
  if (!cast_.defined()) cast_ = weight.detach().to(activations);
  return cast_;
}

const at::Tensor& WeightForms::joined(const std::vector<at::Tensor>& weights, at::ScalarType activations) {
  std::vector<State> now;
  for (const auto& weight : weights) now.push_back({weight.const_data_ptr(), weight._version(), activations});
  if (now != joined_states_) {
    joined_states_ = std::move(now);
    std::vector<at::Tensor> casts;
    for (const auto& weight : weights) casts.push_back(weight.detach().to(activations));
    joined_ = at::cat(casts);
  }
  return joined_;
}

at::Tensor linear(const at::Tensor& x, const LinearWeight& weight, OpsPath path) {
  RECORD_USER_SCOPE("linear");
  const auto& value = weight.value;
  if (path == OpsPath::fast) {
    if (auto y = cpu::linear(x, weight); y.defined()) return y;
    if (value.scalar_type() == at::kFloat) {
      return AccumulatingLinear::apply(x, value, weight.forms->cast(value, x.scalar_type()));
    }
  }
  return at::linear(x, value.to(x.scalar_type()));
}

std::array<at::Tensor, 3> linear_qkv(const at::Tensor& x, const LinearWeight& q, const LinearWeight& k, const LinearWeight& v,
                                     OpsPath path) {
  RECORD_USER_SCOPE("linear_qkv");
  if (path == OpsPath::fast) {
    if (auto results = cpu::linear_qkv(x, q, k, v); results[0].defined()) return results;
    const std::vector<at::Tensor> weights{q.value, k.value, v.value};
    if (std::all_of(weights.begin(), weights.end(),
                    [](const at::Tensor& weight) { return weight.scalar_type() == at::kFloat; })) {
      auto results = AccumulatingQkv::apply(x, q.value, k.value, v.value, q.forms->joined(weights, x.scalar_type()));
      return {std::move(results[0]), std::move(results[1]), std::move(results[2])};
    }
  }
  std::array<at::Tensor, 3> results;
  // One statement each: the order in which autograd adds up x's gradients is part of the definition.
  results[0] = linear(x, q, path);
  results[1] = linear(x, k, path);
  results[2] = linear(x, v, path);
  return results;
}

at::Tensor relu_squared_mlp(const at::Tensor& x, const LinearWeight& fc, const LinearWeight& proj, OpsPath path) {
  RECORD_USER_SCOPE("relu_squared_mlp");
  if (path == OpsPath::fast) {
    if (auto y = cpu::relu_squared_mlp(x, fc, proj); y.defined()) return y;
  }
  return linear(relu_squared(linear(x, fc, path), path), proj, path);
}

}  // namespace pgolf::ops
