// qk_norm_rope_gain: one pass from the projections' [B, T, H, D] to attention's [B, H, T, D].
#include <torch/csrc/autograd/custom_function.h>

#include "fast_ops.h"

namespace pgolf::ops::fast {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

/// A [B, T, H, D] tensor with unit lane stride.
template <class Pointer>
Heads<Pointer> heads_of(Pointer data, const at::Tensor& x) {
  return {data, x.stride(0), x.stride(1), x.stride(2)};
}
/// What is done to heads besides the gain.
struct Transform {
  at::Tensor cos, sin;  ///< [T, half] float32
  RopeStyle style;
  bool normalise;

  RotationTable table() const { return {in<float>(cos), in<float>(sin), cos.size(-1), style == RopeStyle::interleaved}; }
  HeadShape shape_of(const at::Tensor& x) const { return {x.size(1), x.size(2), x.size(3), normalise}; }
};

at::Tensor with_unit_lane_stride(const at::Tensor& x) {
  return x.stride(-1) == 1 ? x : x.contiguous();
}

/// Rows are times of batch entries.
int64_t rows_of_heads(const at::Tensor& x) {
  return x.size(0) * x.size(1);
}
/// Elements per row; q and k are worked on together.
int64_t width_of_heads(const at::Tensor& q, const at::Tensor& k) {
  return (q.size(2) + k.size(2)) * q.size(3);
}

struct Rotated {
  at::Tensor q, k;
};

/// gain as rounded_parameter() gives it; q_rstd and k_rstd [rows, heads] may be undefined: not kept.
Rotated compute(const at::Tensor& q, const at::Tensor& k, const at::Tensor& gain, const Transform& transform,
                const at::Tensor& q_rstd, const at::Tensor& k_rstd) {
  const int64_t batch = q.size(0), time = q.size(1), dim = q.size(3);
  const Rotated result{at::empty({batch, q.size(2), time, dim}, q.options()),
                       at::empty({batch, k.size(2), time, dim}, k.options())};
  const auto q_out = result.q.transpose(1, 2), k_out = result.k.transpose(1, 2);
  for_row_blocks(q, rows_of_heads(q), width_of_heads(q, k), [&](const auto& kernels, int64_t, int64_t first, int64_t rows) {
    using T = ElementOf<decltype(kernels)>;
    kernels.norm_rotate(heads_of(in<T>(q), q), heads_of(out<T>(q_out), q_out), out<float>(q_rstd), transform.table(),
                        in<float>(gain), transform.shape_of(q), first, rows);
    kernels.norm_rotate(heads_of(in<T>(k), k), heads_of(out<T>(k_out), k_out), out<float>(k_rstd), transform.table(), nullptr,
                        transform.shape_of(k), first, rows);
  });
  return result;
}

struct QkNormRopeGain : Function<QkNormRopeGain> {
  static tensor_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain,
                             const Transform& transform) {
    const auto gain = rounded_parameter(q_gain, q.scalar_type());
    const auto q_rstd = empty_float({rows_of_heads(q), q.size(2)}, q);
    const auto k_rstd = empty_float({rows_of_heads(k), k.size(2)}, k);
    context->save_for_backward({q, k, gain, transform.cos, transform.sin, q_rstd, k_rstd});
    context->saved_data["style"] = static_cast<int64_t>(transform.style);
    context->saved_data["normalise"] = transform.normalise;
    const auto rotated = compute(q, k, gain, transform, q_rstd, k_rstd);
    return {rotated.q, rotated.k};
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("qk_norm_rope_gain");
    const auto saved = context->get_saved_variables();
    const auto &q = saved[0], &k = saved[1], &gain = saved[2];
    const Transform transform{saved[3], saved[4], static_cast<RopeStyle>(context->saved_data["style"].toInt()),
                              context->saved_data["normalise"].toBool()};
    const auto dq_out = with_unit_lane_stride(gradients[0]).transpose(1, 2);
    const auto dk_out = with_unit_lane_stride(gradients[1]).transpose(1, 2);
    auto dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options());
    const int64_t rows_in_all = rows_of_heads(q), q_heads = q.size(2);
    const auto dgain = empty_float({partial_sums(q, rows_in_all, q_heads), q_heads}, q);
    for_row_blocks(q, rows_in_all, width_of_heads(q, k), [&](const auto& kernels, int64_t partial, int64_t first, int64_t rows) {
      using T = ElementOf<decltype(kernels)>;
      kernels.norm_rotate_backward(heads_of(in<T>(dq_out), dq_out), heads_of(in<T>(q), q), in<float>(saved[5]), transform.table(),
                                   in<float>(gain), heads_of(out<T>(dq), dq), out<float>(dgain, partial * q_heads),
                                   transform.shape_of(q), first, rows);
      kernels.norm_rotate_backward(heads_of(in<T>(dk_out), dk_out), heads_of(in<T>(k), k), in<float>(saved[6]), transform.table(),
                                   nullptr, heads_of(out<T>(dk), dk), nullptr, transform.shape_of(k), first, rows);
    });
    return {dq, dk, dgain.sum(0), at::Tensor()};
  }
};

bool covers_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain, const RopeTable* table) {
  if (!covered(q) || k.device() != q.device() || k.layout() != q.layout() || q.scalar_type() != k.scalar_type()) return false;
  if (q.dim() != 4 || k.dim() != 4 || q.size(0) != k.size(0) || q.size(1) != k.size(1) || q.size(3) != k.size(3)) return false;
  if (q.size(3) > kMaxHeadDim || !within(cuda::kMaxHeadBytes, q) || !is_parameter(q_gain, {q.size(2)}, q)) return false;
  return table == nullptr || (table->cos.device() == q.device() && table->cos.sizes() == table->sin.sizes() &&
                              table->cos.dim() == 2 && table->cos.size(0) == q.size(1) && 2 * table->cos.size(1) <= q.size(3));
}

}  // namespace

std::pair<at::Tensor, at::Tensor> qk_norm_rope_gain(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& q_gain,
                                                    const RopeTable* table, bool qk_norm) {
  if (!covers_heads(q_in, k_in, q_gain, table)) return {};
  const auto q = with_unit_lane_stride(q_in), k = with_unit_lane_stride(k_in);
  const auto none = empty_float({0, 0}, q);
  const Transform transform{table != nullptr ? table->cos.to(at::kFloat).contiguous() : none,
                            table != nullptr ? table->sin.to(at::kFloat).contiguous() : none,
                            table != nullptr ? table->style : RopeStyle::half, qk_norm};
  if (needs_gradient(q, k, q_gain)) {
    auto outputs = QkNormRopeGain::apply(q, k, q_gain, transform);
    return {std::move(outputs[0]), std::move(outputs[1])};
  }
  auto outputs = compute(q, k, rounded_parameter(q_gain, q.scalar_type()), transform, {}, {});
  return {std::move(outputs.q), std::move(outputs.k)};
}

}  // namespace pgolf::ops::fast
