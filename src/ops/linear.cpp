#include "pgolf/ops/linear.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>

#include "cpu.h"
#include "pgolf/ops/mlp.h"
#include "weight_forms.h"

namespace pgolf::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

/// gradient = beta gradient + dy^T x, beta 0 if it is fresh.
void add_product(const GradientSlot& slot, const at::Tensor& dy, const at::Tensor& x) {
  const auto& [gradient, fresh] = slot;
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

/// The gradients of several weights as one matrix, allocated if there are none; undefined if they are not consecutive in memory.
GradientSlot joined_slot(const std::vector<at::Tensor>& weights) {
  int64_t rows = 0, undefined = 0;
  for (const auto& weight : weights) {
    rows += weight.size(0);
    undefined += weight.grad().defined() ? 0 : 1;
  }
  const int64_t width = weights[0].size(1);
  if (undefined == static_cast<int64_t>(weights.size())) {
    const auto joined = at::empty({rows, width}, weights[0].detach().options());
    int64_t first = 0;
    for (const auto& weight : weights) {
      weight.mutable_grad() = joined.narrow(0, first, weight.size(0));
      first += weight.size(0);
    }
    return {joined, true};
  }
  if (undefined > 0) return {};
  for (size_t i = 0; i < weights.size(); ++i) {
    const auto& gradient = weights[i].grad();
    if (!gradient.is_contiguous()) return {};
    if (i == 0) continue;
    const auto& above = weights[i - 1].grad();
    if (!gradient.is_alias_of(above) || gradient.storage_offset() != above.storage_offset() + above.numel()) return {};
  }
  return {weights[0].grad().as_strided({rows, width}, {width, 1}), false};
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
    if (context->needs_input_grad(1)) add_product(gradient_slot(weight), dy, x.reshape({-1, cast.size(1)}));
    return {dx, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

GradientSlot gradient_slot(const at::Tensor& weight) {
  auto& gradient = weight.mutable_grad();
  const bool fresh = !gradient.defined();
  if (fresh) gradient = at::empty_like(weight.detach());
  return {gradient, fresh};
}

void accumulate_gradients(const std::vector<at::Tensor>& weights, const at::Tensor& dy, const at::Tensor& x) {
  if (const auto slot = joined_slot(weights); slot.gradient.defined()) return add_product(slot, dy, x);
  int64_t first = 0;
  for (const auto& weight : weights) {
    add_product(gradient_slot(weight), dy.narrow(1, first, weight.size(0)), x);
    first += weight.size(0);
  }
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
  }
  std::array<at::Tensor, 3> results;
  // One statement each: the order in which autograd adds up x's gradients is part of the definition.
  results[0] = linear(x, q, path);
  results[1] = linear(x, k, path);
  results[2] = linear(x, v, path);
  return results;
}

at::Tensor leaky_squared_mlp(const at::Tensor& x, const LinearWeight& fc, const LinearWeight& proj, double slope, OpsPath path) {
  RECORD_USER_SCOPE("leaky_squared_mlp");
  if (path == OpsPath::fast) {
    if (auto y = cpu::leaky_squared_mlp(x, fc, proj, slope); y.defined()) return y;
  }
  return linear(leaky_squared(linear(x, fc, path), slope, path), proj, path);
}

}  // namespace pgolf::ops
