// qk_norm_rope_gain, fused; and qkv_heads: the projections' product followed by the same, with a backward that leaves the
// projections' gradient in one buffer.
#include <torch/csrc/autograd/custom_function.h>

#include "fast.h"
#include "weight_forms.h"

namespace pgolf::ops::fast {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

/// What is applied to heads in addition to the gain.
struct Transform {
  at::Tensor cos, sin;  ///< [T, half] float32
  RopeStyle style;
  bool normalize;

  RotationTable table() const { return {in<float>(cos), in<float>(sin), cos.size(-1), style == RopeStyle::interleaved}; }
  HeadShape shape_of(const at::Tensor& x) const { return {x.size(1), x.size(2), x.size(3), normalize}; }
};

/// A row is one time of one batch entry.
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

/// What the backward pass needs from the forward pass.
struct Kept {
  at::Tensor gain;            ///< as rounded_parameter() gives it
  at::Tensor q_rstd, k_rstd;  ///< [rows, heads]; undefined: not stored
};
Kept kept_for(const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain) {
  return {rounded_parameter(q_gain, q.scalar_type()), empty_float({rows_of_heads(q), q.size(2)}, q),
          empty_float({rows_of_heads(k), k.size(2)}, k)};
}

/// Returns [B, H, T, D] views of [B, T, H, D] memory: attention's result then has this order too, and its rows feed the next
/// product without a copy.
Rotated rotate(const at::Tensor& q, const at::Tensor& k, const Kept& kept, const Transform& transform) {
  const auto q_out = at::empty(q.sizes(), q.options()), k_out = at::empty(k.sizes(), k.options());
  for_row_blocks(q, rows_of_heads(q), width_of_heads(q, k), [&](const auto& kernels, int64_t, int64_t first, int64_t rows) {
    using T = ElementOf<decltype(kernels)>;
    kernels.norm_rotate(heads_of(in<T>(q), q), heads_of(out<T>(q_out), q_out), out<float>(kept.q_rstd), transform.table(),
                        in<float>(kept.gain), transform.shape_of(q), first, rows);
    kernels.norm_rotate(heads_of(in<T>(k), k), heads_of(out<T>(k_out), k_out), out<float>(kept.k_rstd), transform.table(),
                        nullptr, transform.shape_of(k), first, rows);
  });
  return {q_out.transpose(1, 2), k_out.transpose(1, 2)};
}

/// Writes dq and dk [B, T, H, D], of any strides with unit stride in the last dimension, and returns the gain's gradient.
at::Tensor rotate_back(const at::Tensor& dq_in, const at::Tensor& dk_in, const at::Tensor& q, const at::Tensor& k,
                       const Kept& kept, const Transform& transform, const at::Tensor& dq, const at::Tensor& dk) {
  const auto dq_out = with_unit_last_stride(dq_in).transpose(1, 2), dk_out = with_unit_last_stride(dk_in).transpose(1, 2);
  const int64_t total_rows = rows_of_heads(q), q_heads = q.size(2);
  const auto dgain = empty_float({partial_sums(q, total_rows, q_heads), q_heads}, q);
  for_row_blocks(q, total_rows, width_of_heads(q, k), [&](const auto& kernels, int64_t partial, int64_t first, int64_t rows) {
    using T = ElementOf<decltype(kernels)>;
    kernels.norm_rotate_backward(heads_of(in<T>(dq_out), dq_out), heads_of(in<T>(q), q), in<float>(kept.q_rstd),
                                 transform.table(), in<float>(kept.gain), heads_of(out<T>(dq), dq),
                                 out<float>(dgain, partial * q_heads), transform.shape_of(q), first, rows);
    kernels.norm_rotate_backward(heads_of(in<T>(dk_out), dk_out), heads_of(in<T>(k), k), in<float>(kept.k_rstd),
                                 transform.table(), nullptr, heads_of(out<T>(dk), dk), nullptr, transform.shape_of(k), first,
                                 rows);
  });
  return dgain.sum(0);
}

void keep(AutogradContext* context, tensor_list tensors, const Kept& kept, const Transform& transform) {
  for (const auto& tensor : {kept.gain, kept.q_rstd, kept.k_rstd, transform.cos, transform.sin}) tensors.push_back(tensor);
  context->save_for_backward(tensors);
  context->saved_data["style"] = static_cast<int64_t>(transform.style);
  context->saved_data["normalize"] = transform.normalize;
}
/// saved: what keep() saved; its own come last.
std::pair<Kept, Transform> kept_in(AutogradContext* context, const tensor_list& saved) {
  const size_t at = saved.size() - 5;
  return {{saved[at], saved[at + 1], saved[at + 2]},
          {saved[at + 3], saved[at + 4], static_cast<RopeStyle>(context->saved_data["style"].toInt()),
           context->saved_data["normalize"].toBool()}};
}

struct QkNormRopeGain : Function<QkNormRopeGain> {
  static tensor_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain,
                             const Transform& transform) {
    const Kept kept = kept_for(q, k, q_gain);
    keep(context, {q, k}, kept, transform);
    const auto rotated = rotate(q, k, kept, transform);
    return {rotated.q, rotated.k};
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("qk_norm_rope_gain");
    const auto saved = context->get_saved_variables();
    const auto [kept, transform] = kept_in(context, saved);
    const auto &q = saved[0], &k = saved[1];
    auto dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options());
    const auto dgain = rotate_back(gradients[0], gradients[1], q, k, kept, transform, dq, dk);
    return {dq, dk, dgain, at::Tensor()};
  }
};

/// Views [B, T, H, D] of the joined projections' output [B, T, (Hq + 2 Hkv) D], heads of `dim` dims.
std::array<at::Tensor, 3> split_heads(const at::Tensor& projected, int64_t q_heads, int64_t dim) {
  const auto heads = projected.unflatten(-1, {-1, dim});
  const int64_t kv_heads = (heads.size(2) - q_heads) / 2;
  return {heads.narrow(2, 0, q_heads), heads.narrow(2, q_heads, kv_heads), heads.narrow(2, q_heads + kv_heads, kv_heads)};
}

struct QkvHeads : Function<QkvHeads> {
  static tensor_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& wq, const at::Tensor& wk,
                             const at::Tensor& wv, const at::Tensor& q_gain, const at::Tensor& joined,
                             const Transform& transform) {
    const auto projected = at::linear(x, joined);
    const auto [q, k, v] = split_heads(projected, q_gain.size(0), wq.size(0) / q_gain.size(0));
    const Kept kept = kept_for(q, k, q_gain);
    keep(context, {x, wq, wk, wv, joined, projected}, kept, transform);
    const auto rotated = rotate(q, k, kept, transform);
    return {rotated.q, rotated.k, v.transpose(1, 2)};
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("qkv_heads");
    const auto saved = context->get_saved_variables();
    const auto [kept, transform] = kept_in(context, saved);
    const auto &x = saved[0], &joined = saved[4], &projected = saved[5];
    const int64_t q_heads = kept.gain.size(0), dim = saved[1].size(0) / q_heads;
    const auto dprojected = at::empty_like(projected);
    const auto [q, k, v] = split_heads(projected, q_heads, dim);
    const auto [dq, dk, dv] = split_heads(dprojected, q_heads, dim);
    const auto dgain = rotate_back(gradients[0], gradients[1], q, k, kept, transform, dq, dk);
    at::Tensor(dv).copy_(gradients[2].transpose(1, 2));
    const auto dy = dprojected.view({-1, joined.size(0)});
    at::Tensor dx;
    if (context->needs_input_grad(0)) dx = at::mm(dy, joined).view(x.sizes());
    if (context->needs_input_grad(1)) accumulate_gradients({saved[1], saved[2], saved[3]}, dy, x.reshape({-1, joined.size(1)}));
    return {dx, at::Tensor(), at::Tensor(), at::Tensor(), dgain, at::Tensor(), at::Tensor()};
  }
};

/// Whether there is no table, or one for `time` positions that rotates at most `dim` dims.
bool covers_table(const RopeTable* table, const at::Tensor& like, int64_t time, int64_t dim) {
  return table == nullptr || (table->cos.device() == like.device() && table->cos.sizes() == table->sin.sizes() &&
                              table->cos.dim() == 2 && table->cos.size(0) == time && 2 * table->cos.size(1) <= dim);
}

Transform transform_of(const RopeTable* table, bool qk_norm, const at::Tensor& like) {
  if (table == nullptr) return {empty_float({0, 0}, like), empty_float({0, 0}, like), RopeStyle::half, qk_norm};
  return {table->cos.to(at::kFloat).contiguous(), table->sin.to(at::kFloat).contiguous(), table->style, qk_norm};
}

bool covers_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain, const RopeTable* table) {
  if (!covered(q) || k.device() != q.device() || k.layout() != q.layout() || q.scalar_type() != k.scalar_type()) return false;
  if (q.dim() != 4 || k.dim() != 4 || q.size(0) != k.size(0) || q.size(1) != k.size(1) || q.size(3) != k.size(3)) return false;
  return covers_head_dim(q, q.size(3)) && is_parameter(q_gain, {q.size(2)}, q) && covers_table(table, q, q.size(1), q.size(3));
}

}  // namespace

std::pair<at::Tensor, at::Tensor> qk_norm_rope_gain(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& q_gain,
                                                    const RopeTable* table, bool qk_norm) {
  if (!covers_heads(q_in, k_in, q_gain, table)) return {};
  const auto q = with_unit_last_stride(q_in), k = with_unit_last_stride(k_in);
  const Transform transform = transform_of(table, qk_norm, q);
  if (needs_gradient(q, k, q_gain)) {
    auto outputs = QkNormRopeGain::apply(q, k, q_gain, transform);
    return {std::move(outputs[0]), std::move(outputs[1])};
  }
  auto outputs = rotate(q, k, {rounded_parameter(q_gain, q.scalar_type()), {}, {}}, transform);
  return {std::move(outputs.q), std::move(outputs.k)};
}

std::array<at::Tensor, 3> qkv_heads(const at::Tensor& x, const LinearWeight& q, const LinearWeight& k, const LinearWeight& v,
                                    const at::Tensor& q_gain, const RopeTable* table, bool qk_norm) {
  const auto &wq = q.value, &wk = k.value, &wv = v.value;
  if (!covered(x) || x.dim() != 3 || q_gain.dim() != 1 || !is_parameter(q_gain, q_gain.sizes(), x)) return {};
  for (const auto& weight : {wq, wk, wv}) {
    if (weight.dim() != 2 || !is_parameter(weight, {weight.size(0), x.size(2)}, x)) return {};
  }
  const int64_t heads = q_gain.size(0), dim = wq.size(0) / heads;
  if (heads * dim != wq.size(0) || wk.size(0) % dim != 0 || wk.sizes() != wv.sizes()) return {};
  if (!covers_head_dim(x, dim) || !covers_table(table, x, x.size(1), dim)) return {};
  const auto& joined = q.forms->joined({wq, wk, wv}, x.scalar_type());
  const Transform transform = transform_of(table, qk_norm, x);
  if (needs_gradient(x, wq, wk, wv, q_gain)) {
    auto outputs = QkvHeads::apply(x, wq, wk, wv, q_gain, joined, transform);
    return {std::move(outputs[0]), std::move(outputs[1]), std::move(outputs[2])};
  }
  const auto parts = split_heads(at::linear(x, joined), heads, dim);
  auto outputs = rotate(parts[0], parts[1], {rounded_parameter(q_gain, x.scalar_type()), {}, {}}, transform);
  return {std::move(outputs.q), std::move(outputs.k), parts[2].transpose(1, 2)};
}

}  // namespace pgolf::ops::fast
