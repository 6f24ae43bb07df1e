// Linear layers on AMX tiles, in bfloat16 or, as four products of bfloat16 parts, in float32. Threads share out the rows of
// the activations, and for weight gradients the rows of the weight.
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

/// Packed operands are kept in tensors of bfloat16, those of float32 products in two parts, see packing_in_parts.
int64_t parts_of(at::ScalarType dtype) {
  return dtype == at::kFloat ? 2 : 1;
}

at::Tensor packed_buffer(int64_t depth, int64_t width, at::ScalarType dtype) {
  return at::empty({parts_of(dtype) * amx::packed_size(depth, width)}, at::TensorOptions().dtype(at::kBFloat16));
}
Bf16* packed_scratch(int64_t depth, int64_t width, at::ScalarType dtype) {
  return thread_scratch<Bf16>(parts_of(dtype) * amx::packed_size(depth, width));
}

/// f(packing, data) for activations.
template <class F>
void with_packing(const at::Tensor& x, const F& f) {
  x.scalar_type() == at::kFloat ? f(amx::packing_in_parts, in<float>(x)) : f(amx::packing, in<Bf16>(x));
}

at::Tensor pack_weight(const at::Tensor& weight, bool transposed, at::ScalarType activations) {
  const auto dense = weight.detach().contiguous();
  const int64_t rows = dense.size(0), columns = dense.size(1);
  // x W^T: depth `columns`, width `rows`; dy W: the other way round.
  const int64_t depth = transposed ? columns : rows, width = transposed ? rows : columns;
  const auto packed = packed_buffer(depth, width, activations);
  share_panels(panels_of(width), static_cast<double>(weight.numel()) * 32, [&](int64_t first, int64_t last) {
    const auto pack = [&](const auto& packing, const auto* data) {
      (transposed ? packing.right_transposed : packing.right)(data, columns, depth, width, out<Bf16>(packed), first, last);
    };
    if (activations == at::kBFloat16 && dense.scalar_type() == at::kFloat) {
      pack(amx::packing_rounded, in<float>(dense));
    } else {
      with_packing(dense, pack);
    }
  });
  return packed;
}

int64_t width_of_rows(const at::Tensor& x) {
  return x.size(-1);
}
int64_t count_rows(const at::Tensor& x) {
  return x.numel() / x.size(-1);
}

/// Rows of activations as right operand; the depth is their number.
at::Tensor packed_right(const at::Tensor& x) {
  const int64_t rows = count_rows(x), width = width_of_rows(x);
  const auto packed = packed_buffer(rows, width, x.scalar_type());
  share_panels(panels_of(width), 32.0 * static_cast<double>(x.numel()), [&](int64_t first, int64_t last) {
    with_packing(x, [&](const auto& packing, const auto* data) {
      packing.right(data, width, rows, width, out<Bf16>(packed), first, last);
    });
  });
  return packed;
}

amx::Output output_to(const at::Tensor& y, amx::Store store, const at::Tensor& d = {}) {
  const auto type = y.scalar_type() == at::kFloat ? amx::Element::float32 : amx::Element::bfloat16;
  return {store, type, y.mutable_data_ptr(), y.size(-1), d.defined() ? d.mutable_data_ptr() : nullptr, y.size(-1)};
}

/// The part of an output from a row and a column on.
amx::Output from(amx::Output output, int64_t row, int64_t column) {
  const auto move = [&](void* to, int64_t stride) -> void* {
    const int64_t bytes = output.type == amx::Element::float32 ? sizeof(float) : sizeof(Bf16);
    return to != nullptr ? static_cast<char*>(to) + (row * stride + column) * bytes : nullptr;
  };
  output.c = move(output.c, output.c_stride);
  output.d = move(output.d, output.d_stride);
  return output;
}

/// Appends left times right, packed for activations of `dtype`; returns the end.
amx::Term* add_terms(amx::Term* to, const Bf16* left, int64_t left_width, const Bf16* right, int64_t right_width, int64_t depth,
                     at::ScalarType dtype) {
  if (dtype == at::kFloat) {
    const Bf16* const left_rest = left + amx::packed_size(depth, left_width);
    const Bf16* const right_rest = right + amx::packed_size(depth, right_width);
    *to++ = {left_rest, right_rest, depth};
    *to++ = {left_rest, right, depth};
    *to++ = {left, right_rest, depth};
  }
  *to++ = {left, right, depth};
  return to;
}

/// The rows of some panels of activations, and how many of them there are.
struct RowRange {
  RowRange(const at::Tensor& x, int64_t first_panel, int64_t last_panel)
      : first(first_panel * kPanel), count(std::min(last_panel * kPanel, count_rows(x)) - first) {}
  int64_t first, count;
};

/// Packs them as left operand; returns the end of it.
Bf16* pack_rows(const at::Tensor& x, const RowRange& range, Bf16* to) {
  const int64_t width = width_of_rows(x);
  with_packing(x, [&](const auto& packing, const auto* data) {
    packing.left(data + range.first * width, width, width, range.count, to, 0, panels_of(range.count));
  });
  return to + parts_of(x.scalar_type()) * amx::packed_size(width, range.count);
}

/// Rows of activations times a packed weight.
struct Factor {
  const at::Tensor &rows, &weight;
};

/// Packs some rows of all factors; their products with the weights go to `to`. Returns the end of them.
template <size_t kCount>
amx::Term* pack_terms(const Factor (&factors)[kCount], const RowRange& range, int64_t columns, amx::Term* to) {
  const auto dtype = factors[0].rows.scalar_type();
  int64_t depth = 0;
  for (const auto& factor : factors) depth += amx::round_up(width_of_rows(factor.rows), amx::kDepthStep);
  auto* left = packed_scratch(depth, range.count, dtype);
  for (const auto& factor : factors) {
    to = add_terms(to, left, range.count, in<Bf16>(factor.weight), columns, width_of_rows(factor.rows), dtype);
    left = pack_rows(factor.rows, range, left);
  }
  return to;
}

/// A sum of products. Threads share out the rows, or, where one panel holds all of them (the tokens of a text that is being
/// generated), the columns: what takes the time is then to read the weight.
template <size_t kCount>
void multiply_all(const Factor (&factors)[kCount], int64_t columns, const amx::Output& output) {
  const int64_t rows = count_rows(factors[0].rows);
  double work = 0;
  for (const auto& factor : factors)
    work += static_cast<double>(amx::round_up(rows, kPanel) * width_of_rows(factor.rows) * columns);
  if (rows > kPanel) {
    return share_panels(panels_of(rows), work, [&](int64_t first, int64_t last) {
      const RowRange range(factors[0].rows, first, last);
      amx::Term terms[4 * kCount];
      const auto* const end = pack_terms(factors, range, columns, terms);
      amx::multiply(terms, end - terms, range.count, columns, from(output, range.first, 0));
    });
  }
  amx::Term terms[4 * kCount];
  const auto* const end = pack_terms(factors, RowRange(factors[0].rows, 0, 1), columns, terms);
  share_panels(panels_of(columns), work, [&](int64_t first, int64_t last) {
    amx::Term part[4 * kCount];
    const auto* const part_end = std::transform(static_cast<const amx::Term*>(terms), end, part, [first](const amx::Term& term) {
      return amx::Term{term.left, term.right + first * amx::packed_size(term.depth, kPanel), term.depth};
    });
    const int64_t column = first * kPanel;
    amx::multiply(part, part_end - part, rows, std::min(last * kPanel, columns) - column, from(output, 0, column));
  });
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

  /// Rows of the weight first * kPanel .. last * kPanel - 1. Whoever needs panels of dy^T packs them.
  void compute(int64_t first, int64_t last) const {
    const auto dtype = dy.scalar_type();
    const int64_t depth = count_rows(dy), width = width_of_rows(dy);
    auto* const left = packed_scratch(depth, kPart * kPanel, dtype);
    for (int64_t panel = first; panel < last; panel += kPart) {
      const int64_t end = std::min(panel + kPart, last), first_row = panel * kPanel,
                    rows = std::min(end * kPanel, width) - first_row;
      with_packing(dy, [&](const auto& packing, const auto* data) {
        packing.left_transposed(data + first_row, width, depth, rows, left, 0, end - panel);
      });
      amx::Term terms[4];
      const auto* const last_term = add_terms(terms, left, rows, in<Bf16>(packed_x), columns, depth, dtype);
      amx::multiply(terms, last_term - terms, rows, columns, from(output_to(gradient, store), first_row, 0));
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
  if (!wanted) return {dy, packed_x, weight.size(1), {}, amx::Store::assign};
  if (weight.scalar_type() == at::kBFloat16) {
    return {dy, packed_x, weight.size(1), at::empty_like(weight.detach()), amx::Store::assign};
  }
  const auto [gradient, fresh] = gradient_slot(weight);
  return {dy, packed_x, weight.size(1), gradient, fresh ? amx::Store::assign : amx::Store::add};
}

at::Tensor for_autograd(const WeightGradient& weight) {
  return weight.gradient.defined() && weight.gradient.scalar_type() == at::kBFloat16 ? weight.gradient : at::Tensor();
}

at::Tensor empty_rows(const at::Tensor& x, int64_t width) {
  auto sizes = x.sizes().vec();
  sizes.back() = width;
  return at::empty(sizes, x.options());
}

at::Tensor multiply_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& operand) {
  const auto y = empty_rows(x, weight.size(0));
  const Factor factor[] = {{x, operand}};
  multiply_all(factor, weight.size(0), output_to(y, amx::Store::assign));
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
    const Factor factor[] = {{dy, operand}};
    multiply_all(factor, x.size(-1), output_to(dx, amx::Store::assign));
    const auto packed_x = packed_right(x);
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
    if (count_rows(x) <= kPanel) {
      for (size_t i = 0; i < 3; ++i) {
        const Factor factor[] = {{x, operands[i]}};
        multiply_all(factor, weights[i].size(0), output_to(results[i], amx::Store::assign));
      }
      return results;
    }
    share_panels(panels_of(count_rows(x)), work, [&](int64_t first, int64_t last) {
      const RowRange range(x, first, last);
      const int64_t width = width_of_rows(x);
      auto* const left = packed_scratch(width, range.count, x.scalar_type());
      pack_rows(x, range, left);
      for (size_t i = 0; i < 3; ++i) {
        const int64_t columns = weights[i].size(0);
        amx::Term terms[4];
        const auto* const end = add_terms(terms, left, range.count, in<Bf16>(operands[i]), columns, width, x.scalar_type());
        amx::multiply(terms, end - terms, range.count, columns, from(output_to(results[i], amx::Store::assign), range.first, 0));
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
    const Factor factors[] = {{dq, saved[4]}, {dk, saved[5]}, {dv, saved[6]}};
    multiply_all(factors, x.size(-1), output_to(dx, amx::Store::assign));
    const auto packed_x = packed_right(x);
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
    const Factor up[] = {{x, fc_operand}}, down[] = {{result.after, proj_operand}};
    const auto hidden_rows = output_to(result.after, amx::Store::relu_squared, result.before);
    multiply_all(up, hidden, hidden_rows);
    multiply_all(down, proj.size(0), output_to(result.y, amx::Store::assign));
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
    const Factor down[] = {{dy, saved[4]}}, up[] = {{dbefore, saved[3]}};
    const auto hidden_rows = output_to(dbefore, amx::Store::relu_squared_backward, before);
    multiply_all(down, hidden, hidden_rows);
    multiply_all(up, x.size(-1), output_to(dx, amx::Store::assign));
    const auto packed_x = packed_right(x), packed_after = packed_right(after);
    const WeightGradient dw[] = {weight_gradient(dbefore, packed_x, fc, context->needs_input_grad(1)),
                                 weight_gradient(dy, packed_after, proj, context->needs_input_grad(2))};
    compute_gradients(dw);
    return {dx, for_autograd(dw[0]), for_autograd(dw[1]), {}, {}, {}, {}};
  }
};

bool covers_linear(const at::Tensor& x, std::initializer_list<LinearWeight> weights) {
  const auto dtype = x.scalar_type();
  if (!amx_usable() || !x.is_cpu() || x.layout() != at::kStrided || x.numel() == 0) return false;
  if (dtype != at::kBFloat16 && dtype != at::kFloat) return false;
  return std::all_of(weights.begin(), weights.end(), [dtype](const LinearWeight& weight) {
    const auto& value = weight.value;
    return value.is_cpu() && value.dim() == 2 && value.numel() > 0 &&
           (value.scalar_type() == at::kFloat || value.scalar_type() == dtype);
  });
}

const at::Tensor& forward_operand(const LinearWeight& weight, const at::Tensor& x) {
  return weight.forms->forward_operand(weight.value, x.scalar_type());
}
const at::Tensor& backward_operand(const LinearWeight& weight, const at::Tensor& x) {
  return weight.forms->backward_operand(weight.value, x.scalar_type());
}

}  // namespace

const at::Tensor& WeightForms::forward_operand(const at::Tensor& weight, at::ScalarType activations) {
  refresh(weight, activations);
  if (!forward_.defined()) forward_ = pack_weight(weight, /*transposed=*/true, activations);
  return forward_;
}

const at::Tensor& WeightForms::backward_operand(const at::Tensor& weight, at::ScalarType activations) {
  refresh(weight, activations);
  if (!backward_.defined()) backward_ = pack_weight(weight, /*transposed=*/false, activations);
  return backward_;
}

namespace cpu {

at::Tensor linear(const at::Tensor& x_in, const LinearWeight& weight) {
  if (!covers_linear(x_in, {weight})) return {};
  const auto x = x_in.contiguous();
  if (!needs_gradient(x, weight.value)) return multiply_rows(x, weight.value, ops::forward_operand(weight, x));
  return AmxLinear::apply(x, weight.value, ops::forward_operand(weight, x), ops::backward_operand(weight, x));
}

std::array<at::Tensor, 3> linear_qkv(const at::Tensor& x_in, const LinearWeight& q, const LinearWeight& k,
                                     const LinearWeight& v) {
  if (!covers_linear(x_in, {q, k, v})) return {};
  const auto x = x_in.contiguous();
  const std::array<at::Tensor, 3> operands{ops::forward_operand(q, x), ops::forward_operand(k, x), ops::forward_operand(v, x)};
  tensor_list results;
  if (needs_gradient(x, q.value, k.value, v.value)) {
    results = AmxQkv::apply(x, q.value, k.value, v.value, operands[0], operands[1], operands[2], ops::backward_operand(q, x),
                            ops::backward_operand(k, x), ops::backward_operand(v, x));
  } else {
    results = AmxQkv::compute(x, {q.value, k.value, v.value}, operands);
  }
  return {std::move(results[0]), std::move(results[1]), std::move(results[2])};
}

at::Tensor relu_squared_mlp(const at::Tensor& x_in, const LinearWeight& fc, const LinearWeight& proj) {
  if (!covers_linear(x_in, {fc, proj})) return {};
  const auto x = x_in.contiguous();
  const auto &up = ops::forward_operand(fc, x), &down = ops::forward_operand(proj, x);
  if (!needs_gradient(x, fc.value, proj.value)) return AmxMlp::compute(x, fc.value, proj.value, up, down).y;
  return AmxMlp::apply(x, fc.value, proj.value, up, down, ops::backward_operand(fc, x), ops::backward_operand(proj, x));
}

}  // namespace cpu
}  // namespace pgolf::ops
