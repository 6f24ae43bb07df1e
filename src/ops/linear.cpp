#include "pgolf/ops/linear.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "cpu_ops.h"
#include "pgolf/ops/mlp.h"
#include "weight_forms.h"

namespace pgolf::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

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
    if (context->needs_input_grad(1)) {
      const auto rows = x.reshape({-1, cast.size(1)});
      const auto [gradient, fresh] = gradient_slot(weight);
      at::Tensor into = gradient;
      const int beta = fresh ? 0 : 1;
      if (cast.scalar_type() == at::kFloat) {
        at::addmm_out(into, gradient, dy.t(), rows, beta, /*alpha=*/1);
      } else if (cast.is_cuda()) {
        at::addmm_out(into, gradient, dy.t(), rows, /*out_dtype=*/at::kFloat, beta, /*alpha=*/1);
      } else {
        const auto product = at::mm(dy.t(), rows);
        fresh ? gradient.copy_(product) : gradient.add_(product);
      }
    }
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

void mark_changed(const at::Tensor& parameter) {
  parameter.unsafeGetTensorImpl()->bump_version();
}

LinearWeight::LinearWeight(at::Tensor weight) : value(std::move(weight)), forms(std::make_shared<WeightForms>()) {}

void WeightForms::refresh(const at::Tensor& weight, at::ScalarType activations) {
  const auto version = static_cast<uint32_t>(weight._version());
  if (weight.const_data_ptr() == data_ && version == version_ && activations == activations_) return;
  data_ = weight.const_data_ptr();
  version_ = version;
  activations_ = activations;
  cast_ = forward_ = backward_ = at::Tensor();
}

const at::Tensor& WeightForms::cast(const at::Tensor& weight, at::ScalarType activations) {
  refresh(weight, activations);
  if (!cast_.defined()) cast_ = weight.detach().to(activations);
  return cast_;
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

at::Tensor relu_squared_mlp(const at::Tensor& x, const LinearWeight& fc, const LinearWeight& proj, OpsPath path) {
  RECORD_USER_SCOPE("relu_squared_mlp");
  if (path == OpsPath::fast) {
    if (auto y = cpu::relu_squared_mlp(x, fc, proj); y.defined()) return y;
  }
  return linear(relu_squared(linear(x, fc, path), path), proj, path);
}

}  // namespace pgolf::ops
