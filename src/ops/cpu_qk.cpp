// qk_norm_rope_gain on the CPU: one pass from the projections' [B, T, H, D] to attention's [B, H, T, D].
#include <torch/csrc/autograd/custom_function.h>

#include "cpu_ops.h"

namespace pgolf::ops::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

/// Batch entry b of a [B, T, H, D] tensor with unit lane stride.
template <class Pointer>
Heads<Pointer> heads_of(Pointer data, const at::Tensor& x, int64_t b) {
  return {data + b * x.stride(0), x.stride(1), x.stride(2)};
}

at::Tensor with_unit_lane_stride(const at::Tensor& x) {
  return x.stride(-1) == 1 ? x : x.contiguous();
}

RotationTable table_of(const at::Tensor& cos, const at::Tensor& sin) {
  return {in<float>(cos), in<float>(sin), cos.size(-1)};
}

/// f(block, batch entry, first time, end time) over blocks of times, in parallel; q and k share the blocks.
template <class F>
void for_time_blocks(const at::Tensor& q, const at::Tensor& k, const F& f) {
  const int64_t time = q.size(1), per_entry = block_count(time);
  // Whole blocks as rows: a block never spans two batch entries.
  const int64_t block_width = (q.size(2) + k.size(2)) * q.size(3);
  for_row_blocks(q.size(0) * per_entry * kBlockRows, block_width, [&](int64_t block, int64_t, int64_t) {
    const int64_t first = block % per_entry * kBlockRows;
    f(block, block / per_entry, first, std::min(first + kBlockRows, time));
  });
}

struct Outputs {
  at::Tensor q, k;
};

/// gain as rounded_parameter() gives it; q_rstd and k_rstd may be undefined: not kept.
Outputs compute(const at::Tensor& q, const at::Tensor& k, const at::Tensor& gain, const at::Tensor& cos, const at::Tensor& sin,
                const at::Tensor& q_rstd, const at::Tensor& k_rstd) {
  const int64_t batch = q.size(0), time = q.size(1), dim = q.size(3);
  const Outputs result{at::empty({batch, q.size(2), time, dim}, q.options()),
                       at::empty({batch, k.size(2), time, dim}, k.options())};
  const auto q_out = result.q.transpose(1, 2), k_out = result.k.transpose(1, 2);
  with_kernels(q, [&](const auto& kernels) {
    using T = ElementOf<decltype(kernels)>;
    const auto run = [&](const at::Tensor& from, const at::Tensor& to, const at::Tensor& rstd, const float* gains, int64_t b,
                         int64_t first, int64_t last) {
      const int64_t heads = from.size(2);
      kernels.norm_rotate(heads_of(in<T>(from), from, b), heads_of(out<T>(to), to, b),
                          rstd.defined() ? out<float>(rstd) + b * time * heads : nullptr, table_of(cos, sin), gains, heads, dim,
                          first, last);
    };
    for_time_blocks(q, k, [&](int64_t, int64_t b, int64_t first, int64_t last) {
      run(q, q_out, q_rstd, in<float>(gain), b, first, last);
      run(k, k_out, k_rstd, nullptr, b, first, last);
    });
  });
  return result;
}

struct QkNormRopeGain : Function<QkNormRopeGain> {
  static tensor_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain,
                             const at::Tensor& cos, const at::Tensor& sin) {
    const auto gain = rounded_parameter(q_gain, q.scalar_type());
    const auto q_rstd = empty_float({q.size(0), q.size(1), q.size(2)});
    const auto k_rstd = empty_float({k.size(0), k.size(1), k.size(2)});
    context->save_for_backward({q, k, gain, cos, sin, q_rstd, k_rstd});
    const auto outputs = compute(q, k, gain, cos, sin, q_rstd, k_rstd);
    return {outputs.q, outputs.k};
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("qk_norm_rope_gain");
    const auto saved = context->get_saved_variables();
    const auto &q = saved[0], &k = saved[1], &gain = saved[2], &cos = saved[3], &sin = saved[4];
    const auto dq_out = with_unit_lane_stride(gradients[0]).transpose(1, 2);
    const auto dk_out = with_unit_lane_stride(gradients[1]).transpose(1, 2);
    auto dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options());
    const int64_t time = q.size(1), dim = q.size(3), q_heads = q.size(2);
    const auto dgain = empty_float({q.size(0) * block_count(time), q_heads});
    with_kernels(q, [&](const auto& kernels) {
      using T = ElementOf<decltype(kernels)>;
      const auto run = [&](const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd, const float* gains,
                           const at::Tensor& dx, float* dgains, int64_t b, int64_t first, int64_t last) {
        const int64_t heads = x.size(2);
        kernels.norm_rotate_backward(heads_of(in<T>(dy), dy, b), heads_of(in<T>(x), x, b), in<float>(rstd) + b * time * heads,
                                     table_of(cos, sin), gains, heads_of(out<T>(dx), dx, b), dgains, heads, dim, first, last);
      };
      for_time_blocks(q, k, [&](int64_t block, int64_t b, int64_t first, int64_t last) {
        run(dq_out, q, saved[5], in<float>(gain), dq, out<float>(dgain) + block * q_heads, b, first, last);
        run(dk_out, k, saved[6], nullptr, dk, nullptr, b, first, last);
      });
    });
    return {dq, dk, dgain.sum(0), at::Tensor(), at::Tensor()};
  }
};

bool covers(const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain, const RopeTable* table) {
  if (!covered(q) || !covered(k) || q.scalar_type() != k.scalar_type() || q.dim() != 4 || k.dim() != 4) return false;
  if (q.size(0) != k.size(0) || q.size(1) != k.size(1) || q.size(3) != k.size(3) || q.size(3) > kMaxHeadDim) return false;
  if (!is_parameter(q_gain, {q.size(2)})) return false;
  return table == nullptr || (table->cos.is_cpu() && table->cos.sizes() == table->sin.sizes() && table->cos.dim() == 2 &&
                              table->cos.size(0) == q.size(1) && 2 * table->cos.size(1) <= q.size(3));
}

}  // namespace

std::pair<at::Tensor, at::Tensor> qk_norm_rope_gain(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& q_gain,
                                                    const RopeTable* table) {
  if (!covers(q_in, k_in, q_gain, table)) return {};
  const auto q = with_unit_lane_stride(q_in), k = with_unit_lane_stride(k_in);
  const auto none = empty_float({0, 0});
  const auto cos = table != nullptr ? table->cos.to(at::kFloat).contiguous() : none;
  const auto sin = table != nullptr ? table->sin.to(at::kFloat).contiguous() : none;
  if (needs_gradient(q, k, q_gain)) {
    auto outputs = QkNormRopeGain::apply(q, k, q_gain, cos, sin);
    return {std::move(outputs[0]), std::move(outputs[1])};
  }
  auto outputs = compute(q, k, rounded_parameter(q_gain, q.scalar_type()), cos, sin, {}, {});
  return {std::move(outputs.q), std::move(outputs.k)};
}

}  // namespace pgolf::ops::cpu
