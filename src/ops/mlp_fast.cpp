// leaky_squared and swiglu: activation and product fused, and so are their gradients.
#include <torch/csrc/autograd/custom_function.h>

#include "fast.h"

namespace pgolf::ops::fast {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

/// f(kernels, first element, count) for blocks of rows.
template <class F>
void for_elements(const at::Tensor& x, const F& f) {
  const int64_t width = x.size(-1);
  for_row_blocks(x, x.numel() / std::max<int64_t>(1, width), width,
                 [&](const auto& kernels, int64_t, int64_t first, int64_t rows) { f(kernels, first * width, rows * width); });
}

at::Tensor square(const at::Tensor& x, double slope) {
  auto y = at::empty_like(x);
  for_elements(x, [&](const auto& kernels, int64_t at, int64_t count) {
    using T = ElementOf<decltype(kernels)>;
    kernels.leaky_squared(in<T>(x, at), static_cast<float>(slope * slope), out<T>(y, at), count);
  });
  return y;
}

struct LeakySquared : Function<LeakySquared> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, double slope) {
    context->save_for_backward({x});
    context->saved_data["slope"] = slope;
    return square(x, slope);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("leaky_squared");
    const auto x = context->get_saved_variables()[0];
    const double slope = context->saved_data["slope"].toDouble();
    const auto dy = gradients[0].contiguous();
    auto dx = at::empty_like(x);
    for_elements(x, [&](const auto& kernels, int64_t at, int64_t count) {
      using T = ElementOf<decltype(kernels)>;
      kernels.leaky_squared_backward(in<T>(dy, at), in<T>(x, at), static_cast<float>(slope * slope), out<T>(dx, at), count);
    });
    return {dx, at::Tensor()};
  }
};

at::Tensor gated(const at::Tensor& gate, const at::Tensor& up) {
  auto y = at::empty_like(gate);
  for_elements(gate, [&](const auto& kernels, int64_t at, int64_t count) {
    using T = ElementOf<decltype(kernels)>;
    kernels.swiglu(in<T>(gate, at), in<T>(up, at), out<T>(y, at), count);
  });
  return y;
}

struct Swiglu : Function<Swiglu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    context->save_for_backward({gate, up});
    return gated(gate, up);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("swiglu");
    const auto saved = context->get_saved_variables();
    const auto &gate = saved[0], &up = saved[1];
    const auto dy = gradients[0].contiguous();
    auto dgate = at::empty_like(gate), dup = at::empty_like(up);
    for_elements(gate, [&](const auto& kernels, int64_t at, int64_t count) {
      using T = ElementOf<decltype(kernels)>;
      kernels.swiglu_backward(in<T>(dy, at), in<T>(gate, at), in<T>(up, at), out<T>(dgate, at), out<T>(dup, at), count);
    });
    return {dgate, dup};
  }
};

}  // namespace

at::Tensor leaky_squared(const at::Tensor& x, double slope) {
  if (!covered(x) || x.dim() == 0) return {};
  const auto dense = x.contiguous();
  return needs_gradient(x) ? LeakySquared::apply(dense, slope) : square(dense, slope);
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  if (!covered(gate) || gate.dim() == 0 || gate.sizes() != up.sizes() || up.scalar_type() != gate.scalar_type() ||
      up.device() != gate.device()) {
    return {};
  }
  const auto g = gate.contiguous(), u = up.contiguous();
  return needs_gradient(gate, up) ? Swiglu::apply(g, u) : gated(g, u);
}

}  // namespace pgolf::ops::fast
