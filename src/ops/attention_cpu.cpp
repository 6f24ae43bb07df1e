// Causal attention on the CPU: one task per query head. bfloat16 is computed on tiles where the processor has them, and
// otherwise in float32.
#include <torch/csrc/autograd/custom_function.h>

#include "cpu.h"

namespace pgolf::ops::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

/// One head of a [B, H, T, D] tensor whose last dimension is contiguous.
template <class Pointer>
Rows<Pointer> head_rows(Pointer data, const at::Tensor& x, int64_t batch, int64_t head) {
  return {data + batch * x.stride(0) + head * x.stride(1), x.stride(2)};
}

/// x in the compute dtype, with unit stride in the last dimension.
at::Tensor as_operand(const at::Tensor& x, at::ScalarType dtype) {
  const auto converted = x.to(dtype);
  return converted.stride(-1) == 1 ? converted : converted.contiguous();
}

/// [B, H, T, D] as a view of a dense [B, T, H, D].
at::Tensor empty_time_first(const at::Tensor& like, at::ScalarType dtype) {
  return at::empty({like.size(0), like.size(2), like.size(1), like.size(3)}, like.options().dtype(dtype)).transpose(1, 2);
}

/// f(kernels) with the kernels for an element type.
template <class F>
void with_attention_kernels(at::ScalarType dtype, const F& f) {
  if (dtype == at::kBFloat16) {
    f(amx_attention_kernels());
  } else {
    f(attention_kernels());
  }
}

/// f(batch entry, query head, scratch of `bytes`) for all of q's heads, in parallel.
template <class F>
void for_query_heads(const at::Tensor& q, int64_t bytes, const F& f) {
  const int64_t heads = q.size(1);
  parallel_for_chunks(q.size(0) * heads, 1, [&](int64_t i, int64_t) { f(i / heads, i % heads, thread_scratch<char>(bytes)); });
}

struct Attended {
  at::Tensor out;
  at::Tensor log_sums;  ///< [B, Hq, T], see AttentionKernels
};

template <class T>
AttentionInput<T> input_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window, int64_t batch,
                           int64_t head) {
  const int64_t shared = head / (q.size(1) / k.size(1));
  return {head_rows(in<T>(q), q, batch, head),
          head_rows(in<T>(k), k, batch, shared),
          head_rows(in<T>(v), v, batch, shared),
          q.size(2),
          q.size(3),
          window == 0 ? q.size(2) : window};
}

/// dtype: compute dtype.
Attended attend(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& v_in, int64_t window, at::ScalarType dtype) {
  const auto q = as_operand(q_in, dtype), k = as_operand(k_in, dtype), v = as_operand(v_in, dtype);
  const Attended result{empty_time_first(q, dtype), empty_float({q.size(0), q.size(1), q.size(2)}, q)};
  with_attention_kernels(dtype, [&](const auto& kernels) {
    using T = ElementOf<decltype(kernels)>;
    for_query_heads(q, kernels.scratch_bytes(q.size(2), q.size(3)), [&](int64_t batch, int64_t head, void* scratch) {
      kernels.forward(input_of<T>(q, k, v, window, batch, head), head_rows(out<T>(result.out), result.out, batch, head),
                      out<float>(result.log_sums, (batch * q.size(1) + head) * q.size(2)), scratch);
    });
  });
  return {result.out.to(q_in.scalar_type()), result.log_sums};
}

struct CausalAttention : Function<CausalAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            int64_t window, at::ScalarType dtype) {
    const auto [out, log_sums] = attend(q, k, v, window, dtype);
    context->save_for_backward({q, k, v, out, log_sums});
    context->saved_data["dtype"] = dtype;
    context->saved_data["window"] = window;
    return out;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("causal_attention");
    const auto saved = context->get_saved_variables();
    const auto type = saved[0].scalar_type(), dtype = context->saved_data["dtype"].toScalarType();
    const int64_t window = context->saved_data["window"].toInt();
    const auto operand = [&](const at::Tensor& x) { return as_operand(x, dtype); };
    const auto q = operand(saved[0]), k = operand(saved[1]), v = operand(saved[2]), y = operand(saved[3]);
    const auto& log_sums = saved[4];
    const auto dy = operand(gradients[0]);
    const int64_t heads = q.size(1), kv_heads = k.size(1), group = heads / kv_heads, time = q.size(2), dim = q.size(3);
    const auto dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()), dv = empty_time_first(v, dtype);
    // Every query head writes its own share, so that the sums do not depend on the number of threads.
    const auto dk_shares = empty_float(q.sizes(), q), dv_shares = empty_float(q.sizes(), q);
    with_attention_kernels(dtype, [&](const auto& kernels) {
      using T = ElementOf<decltype(kernels)>;
      for_query_heads(q, kernels.scratch_bytes(time, dim), [&](int64_t batch, int64_t head, void* scratch) {
        const int64_t first_row = (batch * heads + head) * time;
        kernels.backward(input_of<T>(q, k, v, window, batch, head), head_rows(in<T>(y), y, batch, head),
                         head_rows(in<T>(dy), dy, batch, head), in<float>(log_sums, first_row),
                         head_rows(out<T>(dq), dq, batch, head), out<float>(dk_shares, first_row * dim),
                         out<float>(dv_shares, first_row * dim), scratch);
      });
      parallel_for_chunks(q.size(0) * kv_heads, 1, [&](int64_t i, int64_t) {
        const int64_t first = i * group * time * dim;
        kernels.sum_heads(in<float>(dk_shares, first), group, head_rows(out<T>(dk), dk, i / kv_heads, i % kv_heads), time, dim);
        kernels.sum_heads(in<float>(dv_shares, first), group, head_rows(out<T>(dv), dv, i / kv_heads, i % kv_heads), time, dim);
      });
    });
    return {dq.to(type), dk.to(type), dv.to(type), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool covers_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  for (const auto* x : {&q, &k, &v}) {
    if (!covered(*x) || x->dim() != 4 || x->scalar_type() != q.scalar_type() || x->numel() == 0) return false;
  }
  const int64_t dim = q.size(3);
  return k.sizes() == v.sizes() && q.size(0) == k.size(0) && q.size(2) == k.size(2) && dim == k.size(3) &&
         q.size(1) % k.size(1) == 0 && dim % kAttentionDimMultiple == 0 && dim <= kMaxAttentionDim;
}

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window, bool tiles) {
  if (!covers_attention(q, k, v)) return {};
  const auto dtype = tiles ? q.scalar_type() : at::kFloat;
  if (needs_gradient(q, k, v)) return CausalAttention::apply(q, k, v, window, dtype);
  return attend(q, k, v, window, dtype).out;
}

}  // namespace pgolf::ops::cpu
