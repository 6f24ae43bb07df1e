// Linear layers in bfloat16 on AMX tiles. Threads share out the rows of the activations, and for weight gradients the rows of
// the weight.
#include <torch/csrc/autograd/custom_function.h>

#include "cpu_ops.h"
#include "kernels/amx/gemm.h"
#include "weight_forms.h"

namespace pgolf::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

using cpu::in;
using cpu::out;

constexpr int64_t kPanel = amx::kPanel;

int64_t panels_of(int64_t width) {
  return amx::round_up(width, kPanel) / kPanel;
}

constexpr int64_t kPart = 2;  ///< panels that a thread takes at a time

/// f(first, last) for all panels; `work` in multiply-adds decides whether threads are worth it.
template <class F>
void share_panels(int64_t panels, double work, const F& f) {
  constexpr double worth_a_thread = 1e6;
  if (work > worth_a_thread) return share_out(panels, kPart, f);
  for (int64_t first = 0; first < panels; first += kPart) f(first, std::min(first + kPart, panels));
}

double work_of(const at::Tensor& rows, const at::Tensor& weight) {
  return static_cast<double>(rows.numel()) * static_cast<double>(weight.size(0));
}

at::Tensor packed_buffer(int64_t depth, int64_t width) {
  return at::empty({amx::packed_size(depth, width)}, at::TensorOptions().dtype(at::kBFloat16));
}

at::Tensor pack_weight(const at::Tensor& weight, bool transposed) {
  const auto dense = weight.detach().contiguous();
  const int64_t rows = dense.size(0), columns = dense.size(1);
  // x W^T: depth `columns`, width `rows`; dy W: the other way round.
  const int64_t depth = transposed ? columns : rows, width = transposed ? rows : columns;
  const auto packed = packed_buffer(depth, width);
  share_panels(panels_of(width), static_cast<double>(weight.numel()) * 32, [&](int64_t first, int64_t last) {
    auto* const to = out<Bf16>(packed);
    if (dense.scalar_type() == at::kFloat) {
      const auto pack = transposed ? amx::packing.right_transposed_float : amx::packing.right_float;
      pack(in<float>(dense), columns, depth, width, to, first, last);
    } else {
      const auto pack = transposed ? amx::packing.right_transposed : amx::packing.right;
      pack(in<Bf16>(dense), columns, depth, width, to, first, last);
    }
  });
  return packed;
}

/// [rows, width], dense.
struct Matrix {
  explicit Matrix(const at::Tensor& x) : data(in<Bf16>(x)), width(x.size(-1)), rows(x.numel() / width) {}
  /// As right operand of depth `rows`, packed by all threads.
  at::Tensor packed_right() const {
    const auto packed = packed_buffer(rows, width);
    share_panels(panels_of(width), 32.0 * static_cast<double>(rows * width), [&](int64_t first, int64_t last) {
      amx::packing.right(data, width, rows, width, out<Bf16>(packed), first, last);
    });
    return packed;
  }

  const Bf16* data;
  int64_t width, rows;
};

amx::Output into(const at::Tensor& y) {
  return {amx::Store::bfloat16, y.mutable_data_ptr(), y.size(-1)};
}

/// A matrix of activations times a packed weight.
struct Factor {
  Matrix rows;
  const at::Tensor& weight;
};

/// Rows of the panels first .. last-1 of a sum of products; output is that of row 0.
template <size_t kCount>
void multiply_panels(const Factor (&factors)[kCount], int64_t first, int64_t last, int64_t columns, amx::Output output) {
  int64_t depth = 0;
  for (const auto& factor : factors) depth += amx::round_up(factor.rows.width, amx::kDepthStep);
  const auto packed = packed_buffer(depth, (last - first) * kPanel);
  auto* left = out<Bf16>(packed);
  amx::Term terms[kCount];
  const int64_t first_row = first * kPanel, rows = std::min(last * kPanel, factors[0].rows.rows) - first_row;
  for (size_t i = 0; i < kCount; ++i) {
    const Matrix& x = factors[i].rows;
    amx::packing.left(x.data + first_row * x.width, x.width, x.width, rows, left, 0, last - first);
    terms[i] = {left, in<Bf16>(factors[i].weight), x.width};
    left += amx::packed_size(x.width, (last - first) * kPanel);
  }
  output.c = static_cast<Bf16*>(output.c) + first_row * output.c_stride;
  if (output.d != nullptr) output.d += first_row * output.d_stride;
  amx::multiply(terms, kCount, rows, columns, output);
}

/// dW = dy^T x for one weight; x as packed right operand of `depth` = number of rows.
struct WeightGradient {
  const at::Tensor& dy;
  const at::Tensor& packed_x;
  int64_t columns;      ///< of the weight
  at::Tensor gradient;  ///< undefined: not wanted
  amx::Store store;

  int64_t panels() const { return gradient.defined() ? panels_of(dy.size(-1)) : 0; }
  double work() const { return gradient.defined() ? static_cast<double>(dy.numel()) * static_cast<double>(columns) : 0; }

  /// Rows of the weight first * kPanel .. last * kPanel - 1. Whoever needs panels of dy^T packs them, few enough to stay in
  /// the second-level cache.
  void compute(int64_t first, int64_t last) const {
    const Matrix rows(dy);
    const auto packed = packed_buffer(rows.rows, kPart * kPanel);
    for (int64_t panel = first; panel < last; panel += kPart) {
      const int64_t end = std::min(panel + kPart, last), first_row = panel * kPanel,
                    last_row = std::min(end * kPanel, rows.width);
      auto* const to = out<Bf16>(packed);
      amx::packing.left_transposed(rows.data + first_row, rows.width, rows.rows, last_row - first_row, to, 0, end - panel);
      const amx::Term term{to, in<Bf16>(packed_x), rows.rows};
      const auto size = store == amx::Store::bfloat16 ? sizeof(Bf16) : sizeof(float);
      auto* const c = static_cast<char*>(gradient.mutable_data_ptr()) + static_cast<size_t>(first_row * columns) * size;
      amx::multiply(&term, 1, last_row - first_row, columns, {store, c, columns});
    }
  }
};

/// All at once, so that the shares are even.
template <size_t kCount>
void compute_gradients(const WeightGradient (&weights)[kCount]) {
  int64_t units = 0;
  double work = 0;
  for (const auto& weight : weights) {
    units += weight.panels();
    work += weight.work();
  }
  share_panels(units, work, [&](int64_t first, int64_t last) {
    for (const auto& weight : weights) {
      const int64_t count = weight.panels();
      if (first < count && last > 0) weight.compute(std::max<int64_t>(first, 0), std::min(last, count));
      first -= count;
      last -= count;
    }
  });
}

/// gradient is W.grad() itself for a float32 weight, and a new tensor to hand to autograd for a bfloat16 one.
WeightGradient weight_gradient(const at::Tensor& dy, const at::Tensor& packed_x, const at::Tensor& weight, bool wanted) {
  if (!wanted) return {dy, packed_x, weight.size(1), {}, amx::Store::float32};
  if (weight.scalar_type() == at::kBFloat16) {
    return {dy, packed_x, weight.size(1), at::empty_like(weight.detach()), amx::Store::bfloat16};
  }
  const auto [gradient, fresh] = gradient_slot(weight);
  return {dy, packed_x, weight.size(1), gradient, fresh ? amx::Store::float32 : amx::Store::add_float32};
}

at::Tensor for_autograd(const WeightGradient& weight) {
  return weight.store == amx::Store::bfloat16 ? weight.gradient : at::Tensor();
}

at::Tensor empty_rows(const at::Tensor& x, int64_t width) {
  auto sizes = x.sizes().vec();
  sizes.back() = width;
  return at::empty(sizes, x.options());
}

/// f(first, last) for all panels of rows.
template <class F>
void share_rows(const at::Tensor& x, double work, const F& f) {
  share_panels(panels_of(Matrix(x).rows), work, f);
}

at::Tensor multiply_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& operand) {
  const auto y = empty_rows(x, weight.size(0));
  const Factor factor[] = {{Matrix(x), operand}};
  share_rows(x, work_of(x, weight),
             [&](int64_t first, int64_t last) { multiply_panels(factor, first, last, weight.size(0), into(y)); });
  return y;
}

struct AmxLinear : Function<AmxLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& forward_operand, const at::Tensor& backward_operand) {
    context->save_for_backward({x, weight, backward_operand});
    return multiply_rows(x, weight, forward_operand);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    cpu::refuse_second_derivative("linear");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &operand = saved[2];
    const auto dy = gradients[0].contiguous();
    const auto dx = at::empty_like(x);
    const Factor factor[] = {{Matrix(dy), operand}};
    share_rows(x, work_of(x, weight),
               [&](int64_t first, int64_t last) { multiply_panels(factor, first, last, x.size(-1), into(dx)); });
    const auto packed_x = Matrix(x).packed_right();
    const WeightGradient dw[] = {weight_gradient(dy, packed_x, weight, context->needs_input_grad(1))};
    compute_gradients(dw);
    return {dx, for_autograd(dw[0]), at::Tensor(), at::Tensor()};
  }
};

struct AmxQkv : Function<AmxQkv> {
  static tensor_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& wq, const at::Tensor& wk,
                             const at::Tensor& wv, const at::Tensor& fq, const at::Tensor& fk, const at::Tensor& fv,
                             const at::Tensor& bq, const at::Tensor& bk, const at::Tensor& bv) {
    context->save_for_backward({x, wq, wk, wv, bq, bk, bv});
    return compute(x, {wq, wk, wv}, {fq, fk, fv});
  }
  static tensor_list compute(const at::Tensor& x, const std::array<at::Tensor, 3>& weights,
                             const std::array<at::Tensor, 3>& operands) {
    tensor_list results;
    double work = 0;
    for (const auto& weight : weights) {
      results.push_back(empty_rows(x, weight.size(0)));
      work += work_of(x, weight);
    }
    share_rows(x, work, [&](int64_t first, int64_t last) {
      for (size_t i = 0; i < 3; ++i) {
        const Factor factor[] = {{Matrix(x), operands[i]}};
        multiply_panels(factor, first, last, weights[i].size(0), into(results[i]));
      }
    });
    return results;
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    cpu::refuse_second_derivative("linear_qkv");
    const auto saved = context->get_saved_variables();
    const auto& x = saved[0];
    const auto dq = gradients[0].contiguous(), dk = gradients[1].contiguous(), dv = gradients[2].contiguous();
    const auto dx = at::empty_like(x);
    const Factor factors[] = {{Matrix(dq), saved[4]}, {Matrix(dk), saved[5]}, {Matrix(dv), saved[6]}};
    const double work = work_of(x, saved[1]) + work_of(x, saved[2]) + work_of(x, saved[3]);
    share_rows(x, work, [&](int64_t first, int64_t last) { multiply_panels(factors, first, last, x.size(-1), into(dx)); });
    const auto packed_x = Matrix(x).packed_right();
    const WeightGradient dw[] = {weight_gradient(dq, packed_x, saved[1], context->needs_input_grad(1)),
                                 weight_gradient(dk, packed_x, saved[2], context->needs_input_grad(2)),
                                 weight_gradient(dv, packed_x, saved[3], context->needs_input_grad(3))};
    compute_gradients(dw);
    tensor_list results(10);
    results[0] = dx;
    for (size_t i = 0; i < 3; ++i) results[i + 1] = for_autograd(dw[i]);
    return results;
  }
};

/// Keeps fc(x) (before) and its squared positive part (after).
struct AmxMlp : Function<AmxMlp> {
  struct Activations {
    at::Tensor before, after, y;
  };
  static Activations compute(const at::Tensor& x, const at::Tensor& fc, const at::Tensor& proj, const at::Tensor& fc_operand,
                             const at::Tensor& proj_operand) {
    const int64_t hidden = fc.size(0);
    const Activations result{empty_rows(x, hidden), empty_rows(x, hidden), empty_rows(x, proj.size(0))};
    const Factor up[] = {{Matrix(x), fc_operand}}, down[] = {{Matrix(result.after), proj_operand}};
    const amx::Output hidden_rows{amx::Store::relu_squared, result.after.mutable_data_ptr(), hidden, out<Bf16>(result.before),
                                  hidden};
    share_rows(x, work_of(x, fc), [&](int64_t first, int64_t last) { multiply_panels(up, first, last, hidden, hidden_rows); });
    share_rows(x, work_of(x, fc),
               [&](int64_t first, int64_t last) { multiply_panels(down, first, last, proj.size(0), into(result.y)); });
    return result;
  }
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& fc, const at::Tensor& proj,
                            const at::Tensor& fc_forward, const at::Tensor& proj_forward, const at::Tensor& fc_backward,
                            const at::Tensor& proj_backward) {
    const auto result = compute(x, fc, proj, fc_forward, proj_forward);
    context->save_for_backward({x, fc, proj, fc_backward, proj_backward, result.before, result.after});
    return result.y;
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    cpu::refuse_second_derivative("relu_squared_mlp");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &fc = saved[1], &proj = saved[2], &before = saved[5], &after = saved[6];
    const auto dy = gradients[0].contiguous();
    const int64_t hidden = fc.size(0);
    const auto dbefore = at::empty_like(before), dx = at::empty_like(x);
    const Factor down[] = {{Matrix(dy), saved[4]}}, up[] = {{Matrix(dbefore), saved[3]}};
    const amx::Output hidden_rows{amx::Store::relu_squared_backward, dbefore.mutable_data_ptr(), hidden, out<Bf16>(before),
                                  hidden};
    share_rows(x, work_of(x, fc), [&](int64_t first, int64_t last) { multiply_panels(down, first, last, hidden, hidden_rows); });
    share_rows(x, work_of(x, fc), [&](int64_t first, int64_t last) { multiply_panels(up, first, last, x.size(-1), into(dx)); });
    const auto packed_x = Matrix(x).packed_right(), packed_after = Matrix(after).packed_right();
    const WeightGradient dw[] = {weight_gradient(dbefore, packed_x, fc, context->needs_input_grad(1)),
                                 weight_gradient(dy, packed_after, proj, context->needs_input_grad(2))};
    compute_gradients(dw);
    return {dx, for_autograd(dw[0]), for_autograd(dw[1]), {}, {}, {}, {}};
  }
};

bool covers_linear(const at::Tensor& x, std::initializer_list<LinearWeight> weights) {
  if (!amx_usable() || !x.is_cpu() || x.layout() != at::kStrided || x.scalar_type() != at::kBFloat16 || x.numel() == 0)
    return false;
  return std::all_of(weights.begin(), weights.end(), [](const LinearWeight& weight) {
    const auto& value = weight.value;
    return value.is_cpu() && value.dim() == 2 && value.numel() > 0 &&
           (value.scalar_type() == at::kFloat || value.scalar_type() == at::kBFloat16);
  });
}

const at::Tensor& forward_operand(const LinearWeight& weight) {
  return weight.forms->forward_operand(weight.value);
}
const at::Tensor& backward_operand(const LinearWeight& weight) {
  return weight.forms->backward_operand(weight.value);
}

}  // namespace

const at::Tensor& WeightForms::forward_operand(const at::Tensor& weight) {
  refresh(weight);
  if (!forward_.defined()) forward_ = pack_weight(weight, /*transposed=*/true);
  return forward_;
}

const at::Tensor& WeightForms::backward_operand(const at::Tensor& weight) {
  refresh(weight);
  if (!backward_.defined()) backward_ = pack_weight(weight, /*transposed=*/false);
  return backward_;
}

namespace cpu {

at::Tensor linear(const at::Tensor& x_in, const LinearWeight& weight) {
  if (!covers_linear(x_in, {weight})) return {};
  const auto x = x_in.contiguous();
  if (!needs_gradient(x, weight.value)) return multiply_rows(x, weight.value, ops::forward_operand(weight));
  return AmxLinear::apply(x, weight.value, ops::forward_operand(weight), ops::backward_operand(weight));
}

std::array<at::Tensor, 3> linear_qkv(const at::Tensor& x_in, const LinearWeight& q, const LinearWeight& k,
                                     const LinearWeight& v) {
  if (!covers_linear(x_in, {q, k, v})) return {};
  const auto x = x_in.contiguous();
  const std::array<at::Tensor, 3> operands{ops::forward_operand(q), ops::forward_operand(k), ops::forward_operand(v)};
  tensor_list results;
  if (needs_gradient(x, q.value, k.value, v.value)) {
    results = AmxQkv::apply(x, q.value, k.value, v.value, operands[0], operands[1], operands[2], ops::backward_operand(q),
                            ops::backward_operand(k), ops::backward_operand(v));
  } else {
    results = AmxQkv::compute(x, {q.value, k.value, v.value}, operands);
  }
  return {std::move(results[0]), std::move(results[1]), std::move(results[2])};
}

at::Tensor relu_squared_mlp(const at::Tensor& x_in, const LinearWeight& fc, const LinearWeight& proj) {
  if (!covers_linear(x_in, {fc, proj})) return {};
  const auto x = x_in.contiguous();
  const auto &up = ops::forward_operand(fc), &down = ops::forward_operand(proj);
  if (!needs_gradient(x, fc.value, proj.value)) return AmxMlp::compute(x, fc.value, proj.value, up, down).y;
  return AmxMlp::apply(x, fc.value, proj.value, up, down, ops::backward_operand(fc), ops::backward_operand(proj));
}

}  // namespace cpu
}  // namespace pgolf::ops
