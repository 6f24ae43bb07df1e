// exclude_value: each row of values with the query heads that share them, wherever they lie.
#include <torch/csrc/autograd/custom_function.h>

#include "fast.h"

namespace pgolf::ops::fast {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

GroupShape shape_of(const at::Tensor& y, const at::Tensor& v) {
  return {y.size(1), v.size(2), y.size(2) / v.size(2), y.size(3)};
}

/// f(kernels, first row, count) for the rows of y and v, a time of a batch entry each.
template <class F>
void for_rows_of_heads(const at::Tensor& y, const at::Tensor& v, const F& f) {
  for_row_blocks(y, y.size(0) * y.size(1), (y.size(2) + v.size(2)) * y.size(3),
                 [&](const auto& kernels, int64_t, int64_t first, int64_t rows) { f(kernels, first, rows); });
}

/// The result is dense, as the product that follows wants it.
at::Tensor exclude(const at::Tensor& y, const at::Tensor& v) {
  auto rest = at::empty(y.sizes(), y.options());
  for_rows_of_heads(y, v, [&](const auto& kernels, int64_t first, int64_t rows) {
    using T = ElementOf<decltype(kernels)>;
    kernels.exclude_value(heads_of(in<T>(y), y), heads_of(in<T>(v), v), heads_of(out<T>(rest), rest), shape_of(y, v), first,
                          rows);
  });
  return rest;
}

struct ExcludeValue : Function<ExcludeValue> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& y, const at::Tensor& v) {
    context->save_for_backward({y, v});
    return exclude(y, v);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("exclude_value");
    const auto saved = context->get_saved_variables();
    const auto &y = saved[0], &v = saved[1];
    const auto drest = with_unit_last_stride(gradients[0]);
    auto dy = at::empty(y.sizes(), y.options()), dv = at::empty(v.sizes(), v.options());
    for_rows_of_heads(y, v, [&](const auto& kernels, int64_t first, int64_t rows) {
      using T = ElementOf<decltype(kernels)>;
      kernels.exclude_value_backward(heads_of(in<T>(drest), drest), heads_of(in<T>(y), y), heads_of(in<T>(v), v),
                                     heads_of(out<T>(dy), dy), heads_of(out<T>(dv), dv), shape_of(y, v), first, rows);
    });
    return {dy, dv};
  }
};

bool covers_groups(const at::Tensor& y, const at::Tensor& v) {
  if (!covered(y) || v.device() != y.device() || v.layout() != y.layout() || v.scalar_type() != y.scalar_type()) return false;
  if (y.dim() != 4 || v.dim() != 4 || y.size(0) != v.size(0) || y.size(1) != v.size(1) || y.size(3) != v.size(3)) return false;
  return v.size(2) > 0 && y.size(2) % v.size(2) == 0 && covers_head_dim(y, y.size(3));
}

}  // namespace

at::Tensor exclude_value(const at::Tensor& y_in, const at::Tensor& v_in) {
  if (!covers_groups(y_in, v_in)) return {};
  const auto y = with_unit_last_stride(y_in), v = with_unit_last_stride(v_in);
  return needs_gradient(y, v) ? ExcludeValue::apply(y, v) : exclude(y, v);
}

}  // namespace pgolf::ops::fast
