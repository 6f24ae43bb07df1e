// rms_norm, relu_squared, residual_mix and scaled_add on the CPU: rows of [rows, width], width the last dimension.
#include <torch/csrc/autograd/custom_function.h>

#include "cpu_ops.h"

namespace pgolf::ops::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

int64_t width_of(const at::Tensor& x) {
  return x.size(-1);
}
int64_t rows_of(const at::Tensor& x) {
  return x.numel() / std::max<int64_t>(1, width_of(x));
}

/// rstd may be undefined: not kept.
at::Tensor normalise(const at::Tensor& x, const at::Tensor& rstd) {
  auto y = at::empty_like(x);
  const int64_t width = width_of(x);
  with_kernels(x, [&](const auto& kernels) {
    using T = ElementOf<decltype(kernels)>;
    float* const rstd_data = rstd.defined() ? out<float>(rstd) : nullptr;
    for_row_blocks(rows_of(x), width, [&](int64_t, int64_t first, int64_t rows) {
      kernels.rms_norm(in<T>(x) + first * width, out<T>(y) + first * width, rstd_data ? rstd_data + first : nullptr, rows, width);
    });
  });
  return y;
}

struct RmsNorm : Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    const auto rstd = empty_float({rows_of(x)});
    context->save_for_backward({x, rstd});
    return normalise(x, rstd);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("rms_norm");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &rstd = saved[1];
    const auto dy = gradients[0].contiguous();
    auto dx = at::empty_like(x);
    const int64_t width = width_of(x);
    with_kernels(x, [&](const auto& kernels) {
      using T = ElementOf<decltype(kernels)>;
      for_row_blocks(rows_of(x), width, [&](int64_t, int64_t first, int64_t rows) {
        const int64_t at = first * width;
        kernels.rms_norm_backward(in<T>(dy) + at, in<T>(x) + at, in<float>(rstd) + first, out<T>(dx) + at, rows, width);
      });
    });
    return {dx};
  }
};

at::Tensor square_positive(const at::Tensor& x) {
  auto y = at::empty_like(x);
  with_kernels(x, [&](const auto& kernels) {
    using T = ElementOf<decltype(kernels)>;
    for_row_blocks(rows_of(x), width_of(x), [&](int64_t, int64_t first, int64_t rows) {
      const int64_t at = first * width_of(x);
      kernels.relu_squared(in<T>(x) + at, out<T>(y) + at, rows * width_of(x));
    });
  });
  return y;
}

struct ReluSquared : Function<ReluSquared> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    context->save_for_backward({x});
    return square_positive(x);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("relu_squared");
    const auto x = context->get_saved_variables()[0];
    const auto dy = gradients[0].contiguous();
    auto dx = at::empty_like(x);
    with_kernels(x, [&](const auto& kernels) {
      using T = ElementOf<decltype(kernels)>;
      for_row_blocks(rows_of(x), width_of(x), [&](int64_t, int64_t first, int64_t rows) {
        const int64_t at = first * width_of(x);
        kernels.relu_squared_backward(in<T>(dy) + at, in<T>(x) + at, out<T>(dx) + at, rows * width_of(x));
      });
    });
    return {dx};
  }
};

/// mix as rounded_parameter() gives it.
at::Tensor mix_rows(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix) {
  auto y = at::empty_like(x);
  const int64_t width = width_of(x);
  with_kernels(x, [&](const auto& kernels) {
    using T = ElementOf<decltype(kernels)>;
    for_row_blocks(rows_of(x), width, [&](int64_t, int64_t first, int64_t rows) {
      const int64_t at = first * width;
      kernels.residual_mix(in<T>(x) + at, in<T>(x0) + at, in<float>(mix), out<T>(y) + at, rows, width);
    });
  });
  return y;
}

struct ResidualMix : Function<ResidualMix> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix) {
    const auto rounded = rounded_parameter(mix, x.scalar_type());
    context->save_for_backward({x, x0, rounded});
    return mix_rows(x, x0, rounded);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("residual_mix");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &x0 = saved[1], &mix = saved[2];
    const auto dy = gradients[0].contiguous();
    auto dx = at::empty_like(x), dx0 = at::empty_like(x0);
    const int64_t width = width_of(x);
    const auto dmix = empty_float({block_count(rows_of(x)), 2, width});
    with_kernels(x, [&](const auto& kernels) {
      using T = ElementOf<decltype(kernels)>;
      for_row_blocks(rows_of(x), width, [&](int64_t block, int64_t first, int64_t rows) {
        const int64_t at = first * width;
        kernels.residual_mix_backward(in<T>(dy) + at, in<T>(x) + at, in<T>(x0) + at, in<float>(mix), out<T>(dx) + at,
                                      out<T>(dx0) + at, out<float>(dmix) + block * 2 * width, rows, width);
      });
    });
    return {dx, dx0, dmix.sum(0)};
  }
};

/// scale as rounded_parameter() gives it.
at::Tensor add_rows(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch) {
  auto y = at::empty_like(x);
  const int64_t width = width_of(x);
  with_kernels(x, [&](const auto& kernels) {
    using T = ElementOf<decltype(kernels)>;
    for_row_blocks(rows_of(x), width, [&](int64_t, int64_t first, int64_t rows) {
      const int64_t at = first * width;
      kernels.scaled_add(in<T>(x) + at, in<float>(scale), in<T>(branch) + at, out<T>(y) + at, rows, width);
    });
  });
  return y;
}

struct ScaledAdd : Function<ScaledAdd> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch) {
    const auto rounded = rounded_parameter(scale, x.scalar_type());
    context->save_for_backward({rounded, branch});
    return add_rows(x, rounded, branch);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("scaled_add");
    const auto saved = context->get_saved_variables();
    const auto &scale = saved[0], &branch = saved[1];
    const auto dy = gradients[0].contiguous();
    auto dbranch = at::empty_like(branch);
    const int64_t width = width_of(branch);
    const auto dscale = empty_float({block_count(rows_of(branch)), width});
    with_kernels(branch, [&](const auto& kernels) {
      using T = ElementOf<decltype(kernels)>;
      for_row_blocks(rows_of(branch), width, [&](int64_t block, int64_t first, int64_t rows) {
        const int64_t at = first * width;
        kernels.scaled_add_backward(in<T>(dy) + at, in<float>(scale), in<T>(branch) + at, out<T>(dbranch) + at,
                                    out<float>(dscale) + block * width, rows, width);
      });
    });
    return {gradients[0], dscale.sum(0), dbranch};
  }
};

bool same_kind(const at::Tensor& a, const at::Tensor& b) {
  return covered(a) && covered(b) && a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes();
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x) {
  if (!covered(x) || x.dim() == 0) return {};
  const auto dense = x.contiguous();
  return needs_gradient(x) ? RmsNorm::apply(dense) : normalise(dense, {});
}

at::Tensor relu_squared(const at::Tensor& x) {
  if (!covered(x) || x.dim() == 0) return {};
  const auto dense = x.contiguous();
  return needs_gradient(x) ? ReluSquared::apply(dense) : square_positive(dense);
}

at::Tensor residual_mix(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix) {
  if (!same_kind(x, x0) || x.dim() == 0 || !is_parameter(mix, {2, width_of(x)})) return {};
  const auto dense = x.contiguous(), dense0 = x0.contiguous();
  if (needs_gradient(x, x0, mix)) return ResidualMix::apply(dense, dense0, mix);
  return mix_rows(dense, dense0, rounded_parameter(mix, x.scalar_type()));
}

at::Tensor scaled_add(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch) {
  if (!same_kind(x, branch) || x.dim() == 0 || !is_parameter(scale, {width_of(x)})) return {};
  const auto dense = x.contiguous(), dense_branch = branch.contiguous();
  if (needs_gradient(x, scale, branch)) return ScaledAdd::apply(dense, scale, dense_branch);
  return add_rows(dense, rounded_parameter(scale, x.scalar_type()), dense_branch);
}

}  // namespace pgolf::ops::cpu
