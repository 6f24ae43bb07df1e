// rms_norm, residual_mix and scaled_add: rows of [rows, width], width the last dimension.
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "fast.h"

namespace pgolf::ops::fast {
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

/// rstd may be undefined: not stored.
at::Tensor normalize(const at::Tensor& x, double factor, const at::Tensor& rstd) {
  auto y = at::empty_like(x);
  const int64_t width = width_of(x);
  for_row_blocks(x, rows_of(x), width, [&](const auto& kernels, int64_t, int64_t first, int64_t rows) {
    using T = ElementOf<decltype(kernels)>;
    const int64_t at = first * width;
    kernels.rms_norm(in<T>(x, at), static_cast<float>(factor), out<T>(y, at), out<float>(rstd, first), rows, width);
  });
  return y;
}

struct RmsNorm : Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, double factor) {
    const auto rstd = empty_float({rows_of(x)}, x);
    context->save_for_backward({x, rstd});
    context->saved_data["factor"] = factor;
    return normalize(x, factor, rstd);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("rms_norm");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &rstd = saved[1];
    const auto factor = static_cast<float>(context->saved_data["factor"].toDouble());
    const auto dy = gradients[0].contiguous();
    auto dx = at::empty_like(x);
    const int64_t width = width_of(x);
    for_row_blocks(x, rows_of(x), width, [&](const auto& kernels, int64_t, int64_t first, int64_t rows) {
      using T = ElementOf<decltype(kernels)>;
      const int64_t at = first * width;
      kernels.rms_norm_backward(in<T>(dy, at), in<T>(x, at), in<float>(rstd, first), factor, out<T>(dx, at), rows, width);
    });
    return {dx, at::Tensor()};
  }
};

/// The factor of a second output, rms_norm(y); none: no second output.
using NormFactor = std::optional<double>;

/// What residual_mix and scaled_add return and save: y and, if there is a second output, it and 1 / rms(y).
struct Outputs {
  Outputs(const at::Tensor& x, NormFactor norm_factor)
      : y(at::empty_like(x)), factor(static_cast<float>(norm_factor.value_or(1))) {
    if (!norm_factor) return;
    normed = at::empty_like(x);
    rstd = empty_float({rows_of(x)}, x);
  }
  tensor_list list() const { return normed.defined() ? tensor_list{y, normed} : tensor_list{y}; }

  void save_factor(AutogradContext* context) const { context->saved_data["factor"] = static_cast<double>(factor); }

  at::Tensor y, normed, rstd;
  float factor;
};

/// Incoming gradients of Outputs::list(), contiguous, with what was saved of the second output.
struct OutputGradients {
  OutputGradients(AutogradContext* context, const tensor_list& gradients, at::Tensor saved_y, at::Tensor saved_rstd)
      : dy(gradients[0].contiguous()),
        y(std::move(saved_y)),
        rstd(std::move(saved_rstd)),
        factor(static_cast<float>(context->saved_data["factor"].toDouble())) {
    if (gradients.size() > 1) dnormed = gradients[1].contiguous();
  }
  template <class T>
  NormedOutput<T> normed(int64_t first_row) const {
    const int64_t at = first_row * width_of(dy);
    return {in<T>(dnormed, at), in<T>(y, at), in<float>(rstd, first_row), factor};
  }

  at::Tensor dy, dnormed, y, rstd;
  float factor;
};

/// mix as rounded_parameter() gives it.
Outputs mix_rows(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix, NormFactor norm) {
  Outputs outputs(x, norm);
  const int64_t width = width_of(x);
  for_row_blocks(x, rows_of(x), width, [&](const auto& kernels, int64_t, int64_t first, int64_t rows) {
    using T = ElementOf<decltype(kernels)>;
    const int64_t at = first * width;
    kernels.residual_mix(in<T>(x, at), in<T>(x0, at), in<float>(mix), out<T>(outputs.y, at), outputs.factor,
                         out<T>(outputs.normed, at), out<float>(outputs.rstd, first), rows, width);
  });
  return outputs;
}

struct ResidualMix : Function<ResidualMix> {
  static tensor_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix,
                             NormFactor norm) {
    const auto rounded = rounded_parameter(mix, x.scalar_type());
    const auto outputs = mix_rows(x, x0, rounded, norm);
    context->save_for_backward({x, x0, rounded, norm ? outputs.y : at::Tensor(), outputs.rstd});
    outputs.save_factor(context);
    return outputs.list();
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("residual_mix");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &x0 = saved[1], &mix = saved[2];
    const OutputGradients incoming(context, gradients, saved[3], saved[4]);
    auto dx = at::empty_like(x), dx0 = at::empty_like(x0);
    const int64_t total_rows = rows_of(x), width = width_of(x);
    const auto dmix = empty_float({partial_sums(x, total_rows, width), 2, width}, x);
    for_row_blocks(x, total_rows, width, [&](const auto& kernels, int64_t partial, int64_t first, int64_t rows) {
      using T = ElementOf<decltype(kernels)>;
      const int64_t at = first * width;
      kernels.residual_mix_backward(in<T>(incoming.dy, at), incoming.normed<T>(first), in<T>(x, at), in<T>(x0, at),
                                    in<float>(mix), out<T>(dx, at), out<T>(dx0, at), out<float>(dmix, partial * 2 * width), rows,
                                    width);
    });
    return {dx, dx0, dmix.sum(0), at::Tensor()};
  }
};

/// scale as rounded_parameter() gives it.
Outputs add_rows(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch, NormFactor norm) {
  Outputs outputs(x, norm);
  const int64_t width = width_of(x);
  for_row_blocks(x, rows_of(x), width, [&](const auto& kernels, int64_t, int64_t first, int64_t rows) {
    using T = ElementOf<decltype(kernels)>;
    const int64_t at = first * width;
    kernels.scaled_add(in<T>(x, at), in<float>(scale), in<T>(branch, at), out<T>(outputs.y, at), outputs.factor,
                       out<T>(outputs.normed, at), out<float>(outputs.rstd, first), rows, width);
  });
  return outputs;
}

struct ScaledAdd : Function<ScaledAdd> {
  static tensor_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch,
                             NormFactor norm) {
    const auto rounded = rounded_parameter(scale, x.scalar_type());
    const auto outputs = add_rows(x, rounded, branch, norm);
    context->save_for_backward({rounded, branch, norm ? outputs.y : at::Tensor(), outputs.rstd});
    outputs.save_factor(context);
    return outputs.list();
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("scaled_add");
    const auto saved = context->get_saved_variables();
    const auto &scale = saved[0], &branch = saved[1];
    const OutputGradients incoming(context, gradients, saved[2], saved[3]);
    // Without a second output x's gradient is the incoming one.
    const auto dx = incoming.dnormed.defined() ? at::empty_like(branch) : at::Tensor();
    auto dbranch = at::empty_like(branch);
    const int64_t total_rows = rows_of(branch), width = width_of(branch);
    const auto dscale = empty_float({partial_sums(branch, total_rows, width), width}, branch);
    for_row_blocks(branch, total_rows, width, [&](const auto& kernels, int64_t partial, int64_t first, int64_t rows) {
      using T = ElementOf<decltype(kernels)>;
      const int64_t at = first * width;
      kernels.scaled_add_backward(in<T>(incoming.dy, at), incoming.normed<T>(first), in<float>(scale), in<T>(branch, at),
                                  out<T>(dx, at), out<T>(dbranch, at), out<float>(dscale, partial * width), rows, width);
    });
    return {dx.defined() ? dx : gradients[0], dscale.sum(0), dbranch, at::Tensor()};
  }
};

bool covers_rows(const at::Tensor& x) {
  return covered(x) && x.dim() > 0 && within(cuda::kMaxRowBytes, x);
}

bool same_kind(const at::Tensor& a, const at::Tensor& b) {
  return a.device() == b.device() && a.layout() == b.layout() && a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes();
}

/// {y} or {y, factor * rms_norm(y)}; empty: not covered.
tensor_list residual_mix_outputs(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix, NormFactor norm) {
  if (!covers_rows(x) || !same_kind(x, x0) || !is_parameter(mix, {2, width_of(x)}, x)) return {};
  const auto dense = x.contiguous(), dense0 = x0.contiguous();
  if (needs_gradient(x, x0, mix)) return ResidualMix::apply(dense, dense0, mix, norm);
  return mix_rows(dense, dense0, rounded_parameter(mix, x.scalar_type()), norm).list();
}

tensor_list scaled_add_outputs(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch, NormFactor norm) {
  if (!covers_rows(x) || !same_kind(x, branch) || !is_parameter(scale, {width_of(x)}, x)) return {};
  const auto dense = x.contiguous(), dense_branch = branch.contiguous();
  if (needs_gradient(x, scale, branch)) return ScaledAdd::apply(dense, scale, dense_branch, norm);
  return add_rows(dense, rounded_parameter(scale, x.scalar_type()), dense_branch, norm).list();
}

at::Tensor single(tensor_list outputs) {
  return outputs.empty() ? at::Tensor() : std::move(outputs[0]);
}
Normed both(tensor_list outputs) {
  return outputs.empty() ? Normed{} : Normed{std::move(outputs[0]), std::move(outputs[1])};
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, double factor) {
  if (!covers_rows(x)) return {};
  const auto dense = x.contiguous();
  return needs_gradient(x) ? RmsNorm::apply(dense, factor) : normalize(dense, factor, {});
}

at::Tensor residual_mix(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix) {
  return single(residual_mix_outputs(x, x0, mix, {}));
}
at::Tensor scaled_add(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch) {
  return single(scaled_add_outputs(x, scale, branch, {}));
}
Normed residual_mix_norm(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix, double factor) {
  return both(residual_mix_outputs(x, x0, mix, factor));
}
Normed scaled_add_norm(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch, double factor) {
  return both(scaled_add_outputs(x, scale, branch, factor));
}

}  // namespace pgolf::ops::fast
