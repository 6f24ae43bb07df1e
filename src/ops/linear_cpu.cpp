// Linear layers over the products of gemm_cpu.h. Threads split the rows of the activations, and for weight gradients the rows of
// the weight.
#include <torch/csrc/autograd/custom_function.h>

#include "cpu.h"
#include "gemm_cpu.h"
#include "weight_forms.h"

namespace pgolf::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

using cpu::in;
using cpu::out;

constexpr int64_t kChunk = 2;  ///< panels that a thread takes at a time

int64_t panels_of(int64_t width, int64_t panel) {
  return round_up(width, panel) / panel;
}

/// f(first, last) for all panels; `work` in multiply-adds decides whether threads are worth it.
template <class F>
void parallel_for_panels(int64_t panels, double work, const F& f) {
  constexpr double worth_a_thread = 1e6;
  if (work > worth_a_thread) return parallel_for_chunks(panels, kChunk, f);
  for (int64_t first = 0; first < panels; first += kChunk) f(first, std::min(first + kChunk, panels));
}

double work_of(const at::Tensor& rows, const at::Tensor& weight) {
  return static_cast<double>(rows.numel()) * static_cast<double>(weight.size(0));
}

template <class Gemm>
at::Tensor packed_buffer(int64_t depth, int64_t columns, at::ScalarType activations) {
  return at::empty({Gemm::right_size(depth, columns, activations)}, at::TensorOptions().dtype(Gemm::kPackedType));
}

template <class Gemm>
at::Tensor pack_weight_for(const at::Tensor& weight, bool transposed, at::ScalarType activations) {
  const auto dense = weight.detach().contiguous();
  const int64_t rows = dense.size(0), columns = dense.size(1);
  // x W^T: depth `columns`, width `rows`; dy W: the other way round.
  const int64_t depth = transposed ? columns : rows, width = transposed ? rows : columns;
  const auto packed = packed_buffer<Gemm>(depth, width, activations);
  parallel_for_panels(panels_of(width, Gemm::kRightPanel), static_cast<double>(weight.numel()) * 32,
                      [&](int64_t first, int64_t last) {
                        const auto pack = [&](const auto& packing, const auto* data) {
                          (transposed ? packing.right_transposed : packing.right)(
                              data, columns, depth, width, out<typename Gemm::Packed>(packed), first, last);
                        };
                        if (activations == at::kBFloat16 && dense.scalar_type() == at::kFloat) {
                          Gemm::with_rounding(dense, pack);
                        } else {
                          Gemm::with_packing(dense, pack);
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
template <class Gemm>
at::Tensor packed_right(const at::Tensor& x) {
  const int64_t rows = count_rows(x), width = width_of_rows(x);
  const auto packed = packed_buffer<Gemm>(rows, width, x.scalar_type());
  parallel_for_panels(panels_of(width, Gemm::kRightPanel), 32.0 * static_cast<double>(x.numel()),
                      [&](int64_t first, int64_t last) {
                        Gemm::with_packing(x, [&](const auto& packing, const auto* data) {
                          packing.right(data, width, rows, width, out<typename Gemm::Packed>(packed), first, last);
                        });
                      });
  return packed;
}

Output output_to(const at::Tensor& y, Store store, const at::Tensor& d = {}) {
  const auto type = y.scalar_type() == at::kFloat ? Element::float32 : Element::bfloat16;
  return {store, type, y.mutable_data_ptr(), y.size(-1), d.defined() ? d.mutable_data_ptr() : nullptr, y.size(-1)};
}

/// The part of an output that starts at a row and a column.
Output from(Output output, int64_t row, int64_t column) {
  const auto move = [&](void* to, int64_t stride) -> void* {
    const int64_t bytes = output.type == Element::float32 ? sizeof(float) : sizeof(Bf16);
    return to != nullptr ? static_cast<char*>(to) + (row * stride + column) * bytes : nullptr;
  };
  output.c = move(output.c, output.c_stride);
  output.d = move(output.d, output.d_stride);
  return output;
}

/// The rows of some panels of activations, and how many of them there are.
struct RowRange {
  RowRange(const at::Tensor& x, int64_t panel, int64_t first_panel, int64_t last_panel)
      : first(first_panel * panel), count(std::min(last_panel * panel, count_rows(x)) - first) {}
  int64_t first, count;
};

/// Packs them as left operand; returns the end of it.
template <class Gemm>
typename Gemm::Packed* pack_rows(const at::Tensor& x, const RowRange& range, typename Gemm::Packed* to) {
  const int64_t width = width_of_rows(x);
  Gemm::with_packing(x, [&](const auto& packing, const auto* data) {
    packing.left(data + range.first * width, width, width, range.count, to, 0, panels_of(range.count, Gemm::kLeftPanel));
  });
  return to + Gemm::left_size(width, range.count, x.scalar_type());
}

/// Rows of activations times a packed weight.
struct Factor {
  const at::Tensor &rows, &weight;
};

/// Packs some rows of all factors; their products with the weights go to `to`. Returns the end of them.
template <class Gemm, size_t kCount>
typename Gemm::Term* pack_terms(const Factor (&factors)[kCount], const RowRange& range, int64_t columns,
                                typename Gemm::Term* to) {
  const auto dtype = factors[0].rows.scalar_type();
  int64_t size = 0;
  for (const auto& factor : factors) size += Gemm::left_size(width_of_rows(factor.rows), range.count, dtype);
  auto* left = thread_scratch<typename Gemm::Packed>(size);
  for (const auto& factor : factors) {
    to = Gemm::add_terms(to, left, range.count, in<typename Gemm::Packed>(factor.weight), columns, width_of_rows(factor.rows),
                         dtype);
    left = pack_rows<Gemm>(factor.rows, range, left);
  }
  return to;
}

/// At most one panel of rows (tokens being generated): reading the weight then takes most of the time.
template <class Gemm>
bool few_rows(const at::Tensor& x) {
  return count_rows(x) <= Gemm::kLeftPanel;
}

/// A sum of products. Threads split the rows or, if those are few, the columns.
template <class Gemm, size_t kCount>
void multiply_all(const Factor (&factors)[kCount], int64_t columns, const Output& output) {
  const int64_t rows = count_rows(factors[0].rows);
  double work = 0;
  for (const auto& factor : factors)
    work += static_cast<double>(round_up(rows, Gemm::kLeftPanel) * width_of_rows(factor.rows) * columns);
  if (!few_rows<Gemm>(factors[0].rows)) {
    return parallel_for_panels(panels_of(rows, Gemm::kLeftPanel), work, [&](int64_t first, int64_t last) {
      const RowRange range(factors[0].rows, Gemm::kLeftPanel, first, last);
      typename Gemm::Term mine[Gemm::kTerms * kCount];
      const auto* const end = pack_terms<Gemm>(factors, range, columns, mine);
      Gemm::multiply(mine, end - mine, range.count, columns, from(output, range.first, 0));
    });
  }
  typename Gemm::Term terms[Gemm::kTerms * kCount];
  const auto* const end = pack_terms<Gemm>(factors, RowRange(factors[0].rows, Gemm::kLeftPanel, 0, 1), columns, terms);
  parallel_for_panels(panels_of(columns, Gemm::kRightPanel), work, [&](int64_t first, int64_t last) {
    const int64_t column = first * Gemm::kRightPanel;
    typename Gemm::Term part[Gemm::kTerms * kCount];
    const auto* const part_end =
        std::transform(static_cast<const typename Gemm::Term*>(terms), end, part, [column](const typename Gemm::Term& term) {
          return typename Gemm::Term{term.left, term.right + Gemm::columns_before(column, term.depth), term.depth};
        });
    Gemm::multiply(part, part_end - part, rows, std::min(last * Gemm::kRightPanel, columns) - column, from(output, 0, column));
  });
}

/// dW = dy^T x for one weight; x as packed right operand of `depth` = number of rows.
struct WeightGradient {
  const at::Tensor& dy;
  const at::Tensor& packed_x;
  int64_t columns;      ///< of the weight
  at::Tensor gradient;  ///< undefined: not needed
  Store store;

  double work() const { return gradient.defined() ? static_cast<double>(dy.numel()) * static_cast<double>(columns) : 0; }

  template <class Gemm>
  int64_t panels() const {
    return gradient.defined() ? panels_of(dy.size(-1), Gemm::kLeftPanel) : 0;
  }

  /// Rows of the weight from panel `first` to panel `last`. The thread that needs panels of dy^T packs them.
  template <class Gemm>
  void compute(int64_t first, int64_t last) const {
    const auto dtype = dy.scalar_type();
    const int64_t depth = count_rows(dy), width = width_of_rows(dy);
    auto* const left = thread_scratch<typename Gemm::Packed>(Gemm::left_size(depth, kChunk * Gemm::kLeftPanel, dtype));
    for (int64_t panel = first; panel < last; panel += kChunk) {
      const int64_t end = std::min(panel + kChunk, last), first_row = panel * Gemm::kLeftPanel,
                    rows = std::min(end * Gemm::kLeftPanel, width) - first_row;
      Gemm::with_packing(dy, [&](const auto& packing, const auto* data) {
        packing.left_transposed(data + first_row, width, depth, rows, left, 0, end - panel);
      });
      typename Gemm::Term terms[Gemm::kTerms];
      const auto* const last_term =
          Gemm::add_terms(terms, left, rows, in<typename Gemm::Packed>(packed_x), columns, depth, dtype);
      Gemm::multiply(terms, last_term - terms, rows, columns, from(output_to(gradient, store), first_row, 0));
    }
  }
};

/// All weights in one parallel loop, for an even load.
template <class Gemm, size_t kCount>
void compute_gradients(const WeightGradient (&weights)[kCount]) {
  int64_t units = 0;
  double work = 0;
  for (const auto& weight : weights) {
    units += weight.template panels<Gemm>();
    work += weight.work();
  }
  parallel_for_panels(units, work, [&](int64_t first, int64_t last) {
    for (const auto& weight : weights) {
      const int64_t count = weight.template panels<Gemm>();
      if (first < count && last > 0) weight.template compute<Gemm>(std::max<int64_t>(first, 0), std::min(last, count));
      first -= count;
      last -= count;
    }
  });
}

/// gradient is W.grad() itself for a float32 weight, and a new tensor to hand to autograd for a bfloat16 one.
WeightGradient weight_gradient(const at::Tensor& dy, const at::Tensor& packed_x, const at::Tensor& weight, bool wanted) {
  if (!wanted) return {dy, packed_x, weight.size(1), {}, Store::assign};
  if (weight.scalar_type() == at::kBFloat16) {
    return {dy, packed_x, weight.size(1), at::empty_like(weight.detach()), Store::assign};
  }
  const auto [gradient, fresh] = gradient_slot(weight);
  return {dy, packed_x, weight.size(1), gradient, fresh ? Store::assign : Store::add};
}

at::Tensor for_autograd(const WeightGradient& weight) {
  return weight.gradient.defined() && weight.gradient.scalar_type() == at::kBFloat16 ? weight.gradient : at::Tensor();
}

at::Tensor empty_rows(const at::Tensor& x, int64_t width) {
  auto sizes = x.sizes().vec();
  sizes.back() = width;
  return at::empty(sizes, x.options());
}

template <class Gemm>
at::Tensor multiply_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& operand) {
  const auto y = empty_rows(x, weight.size(0));
  const Factor factor[] = {{x, operand}};
  multiply_all<Gemm>(factor, weight.size(0), output_to(y, Store::assign));
  return y;
}

template <class Gemm>
struct PackedLinear : Function<PackedLinear<Gemm>> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& forward_operand, const at::Tensor& backward_operand) {
    context->save_for_backward({x, weight, backward_operand});
    return multiply_rows<Gemm>(x, weight, forward_operand);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    cpu::refuse_second_derivative("linear");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &operand = saved[2];
    const auto dy = gradients[0].contiguous();
    const auto dx = at::empty_like(x);
    const Factor factor[] = {{dy, operand}};
    multiply_all<Gemm>(factor, x.size(-1), output_to(dx, Store::assign));
    const auto packed_x = packed_right<Gemm>(x);
    const WeightGradient dw[] = {weight_gradient(dy, packed_x, weight, context->needs_input_grad(1))};
    compute_gradients<Gemm>(dw);
    return {dx, for_autograd(dw[0]), at::Tensor(), at::Tensor()};
  }
};

template <class Gemm>
struct PackedQkv : Function<PackedQkv<Gemm>> {
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
    if (few_rows<Gemm>(x)) {
      for (size_t i = 0; i < 3; ++i) {
        const Factor factor[] = {{x, operands[i]}};
        multiply_all<Gemm>(factor, weights[i].size(0), output_to(results[i], Store::assign));
      }
      return results;
    }
    parallel_for_panels(panels_of(count_rows(x), Gemm::kLeftPanel), work, [&](int64_t first, int64_t last) {
      const RowRange range(x, Gemm::kLeftPanel, first, last);
      const int64_t width = width_of_rows(x);
      auto* const left = thread_scratch<typename Gemm::Packed>(Gemm::left_size(width, range.count, x.scalar_type()));
      pack_rows<Gemm>(x, range, left);
      for (size_t i = 0; i < 3; ++i) {
        const int64_t columns = weights[i].size(0);
        typename Gemm::Term terms[Gemm::kTerms];
        const auto* const end =
            Gemm::add_terms(terms, left, range.count, in<typename Gemm::Packed>(operands[i]), columns, width, x.scalar_type());
        Gemm::multiply(terms, end - terms, range.count, columns, from(output_to(results[i], Store::assign), range.first, 0));
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
    multiply_all<Gemm>(factors, x.size(-1), output_to(dx, Store::assign));
    const auto packed_x = packed_right<Gemm>(x);
    const WeightGradient dw[] = {weight_gradient(dq, packed_x, saved[1], context->needs_input_grad(1)),
                                 weight_gradient(dk, packed_x, saved[2], context->needs_input_grad(2)),
                                 weight_gradient(dv, packed_x, saved[3], context->needs_input_grad(3))};
    compute_gradients<Gemm>(dw);
    tensor_list results(10);
    results[0] = dx;
    for (size_t i = 0; i < 3; ++i) results[i + 1] = for_autograd(dw[i]);
    return results;
  }
};

/// Keeps fc(x) (before) and its squared positive part (after).
template <class Gemm>
struct PackedMlp : Function<PackedMlp<Gemm>> {
  struct Activations {
    at::Tensor before, after, y;
  };
  static Activations compute(const at::Tensor& x, const at::Tensor& fc, const at::Tensor& proj, const at::Tensor& fc_operand,
                             const at::Tensor& proj_operand, double slope) {
    const int64_t hidden = fc.size(0);
    const Activations result{empty_rows(x, hidden), empty_rows(x, hidden), empty_rows(x, proj.size(0))};
    const Factor up[] = {{x, fc_operand}}, down[] = {{result.after, proj_operand}};
    auto hidden_rows = output_to(result.after, Store::leaky_squared, result.before);
    hidden_rows.q = static_cast<float>(slope * slope);
    multiply_all<Gemm>(up, hidden, hidden_rows);
    multiply_all<Gemm>(down, proj.size(0), output_to(result.y, Store::assign));
    return result;
  }
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& fc, const at::Tensor& proj,
                            const at::Tensor& fc_forward, const at::Tensor& proj_forward, const at::Tensor& fc_backward,
                            const at::Tensor& proj_backward, double slope) {
    const auto result = compute(x, fc, proj, fc_forward, proj_forward, slope);
    context->saved_data["slope"] = slope;
    context->save_for_backward({x, fc, proj, fc_backward, proj_backward, result.before, result.after});
    return result.y;
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    cpu::refuse_second_derivative("leaky_squared_mlp");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &fc = saved[1], &proj = saved[2], &before = saved[5], &after = saved[6];
    const auto dy = gradients[0].contiguous();
    const int64_t hidden = fc.size(0);
    const auto dbefore = at::empty_like(before), dx = at::empty_like(x);
    const Factor down[] = {{dy, saved[4]}}, up[] = {{dbefore, saved[3]}};
    const double slope = context->saved_data["slope"].toDouble();
    auto hidden_rows = output_to(dbefore, Store::leaky_squared_backward, before);
    hidden_rows.q = static_cast<float>(slope * slope);
    multiply_all<Gemm>(down, hidden, hidden_rows);
    multiply_all<Gemm>(up, x.size(-1), output_to(dx, Store::assign));
    const auto packed_x = packed_right<Gemm>(x), packed_after = packed_right<Gemm>(after);
    const WeightGradient dw[] = {weight_gradient(dbefore, packed_x, fc, context->needs_input_grad(1)),
                                 weight_gradient(dy, packed_after, proj, context->needs_input_grad(2))};
    compute_gradients<Gemm>(dw);
    return {dx, for_autograd(dw[0]), for_autograd(dw[1]), {}, {}, {}, {}, {}};
  }
};

const at::Tensor& forward_operand(const LinearWeight& weight, const at::Tensor& x) {
  return weight.forms->forward_operand(weight.value, x.scalar_type());
}
const at::Tensor& backward_operand(const LinearWeight& weight, const at::Tensor& x) {
  return weight.forms->backward_operand(weight.value, x.scalar_type());
}

at::Tensor pack_weight(const at::Tensor& weight, bool transposed, at::ScalarType activations) {
  at::Tensor packed;
  cpu::with_gemm([&](auto gemm) { packed = pack_weight_for<decltype(gemm)>(weight, transposed, activations); });
  return packed;
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

bool covers_linear(const at::Tensor& x, std::initializer_list<LinearWeight> weights) {
  const auto dtype = x.scalar_type();
  if (!cpu::covered(x) || x.numel() == 0 || !has_gemm(dtype)) return false;
  return std::all_of(weights.begin(), weights.end(), [dtype](const LinearWeight& weight) {
    const auto& value = weight.value;
    return value.is_cpu() && value.dim() == 2 && value.numel() > 0 &&
           (value.scalar_type() == at::kFloat || value.scalar_type() == dtype);
  });
}

at::Tensor linear(const at::Tensor& x_in, const LinearWeight& weight) {
  at::Tensor y;
  if (!covers_linear(x_in, {weight})) return y;
  with_gemm([&](auto gemm) {
    using Gemm = decltype(gemm);
    const auto x = x_in.contiguous();
    const auto& forward = ops::forward_operand(weight, x);
    y = needs_gradient(x, weight.value) ? PackedLinear<Gemm>::apply(x, weight.value, forward, ops::backward_operand(weight, x))
                                        : multiply_rows<Gemm>(x, weight.value, forward);
  });
  return y;
}

std::array<at::Tensor, 3> linear_qkv(const at::Tensor& x_in, const LinearWeight& q, const LinearWeight& k,
                                     const LinearWeight& v) {
  tensor_list results(3);
  if (covers_linear(x_in, {q, k, v})) {
    with_gemm([&](auto gemm) {
      using Qkv = PackedQkv<decltype(gemm)>;
      const auto x = x_in.contiguous();
      const auto &fq = ops::forward_operand(q, x), &fk = ops::forward_operand(k, x), &fv = ops::forward_operand(v, x);
      results = needs_gradient(x, q.value, k.value, v.value)
                    ? Qkv::apply(x, q.value, k.value, v.value, fq, fk, fv, ops::backward_operand(q, x),
                                 ops::backward_operand(k, x), ops::backward_operand(v, x))
                    : Qkv::compute(x, {q.value, k.value, v.value}, {fq, fk, fv});
    });
  }
  return {std::move(results[0]), std::move(results[1]), std::move(results[2])};
}

at::Tensor leaky_squared_mlp(const at::Tensor& x_in, const LinearWeight& fc, const LinearWeight& proj, double slope) {
  at::Tensor y;
  if (!covers_linear(x_in, {fc, proj})) return y;
  with_gemm([&](auto gemm) {
    using Mlp = PackedMlp<decltype(gemm)>;
    const auto x = x_in.contiguous();
    const auto &up = ops::forward_operand(fc, x), &down = ops::forward_operand(proj, x);
    y = needs_gradient(x, fc.value, proj.value)
            ? Mlp::apply(x, fc.value, proj.value, up, down, ops::backward_operand(fc, x), ops::backward_operand(proj, x), slope)
            : Mlp::compute(x, fc.value, proj.value, up, down, slope).y;
  });
  return y;
}

}  // namespace cpu
}  // namespace pgolf::ops
