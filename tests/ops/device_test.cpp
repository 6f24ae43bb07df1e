// Products, attention and Muon on every device: the fast path there against the definition in float64 on the CPU.
#include "support/device.h"

#include <limits>

#include "../../src/ops/muon_batched.h"
#include "ops/ops_testing.h"
#include "pgolf/base/cpu_level.h"
#include "pgolf/ops/attention.h"
#include "pgolf/ops/linear.h"

namespace pgolf::ops::testing::devices {
namespace {

using pgolf::testing::DeviceTest;
using pgolf::testing::expect_runs;
using pgolf::testing::largest_error;
using pgolf::testing::mean_error;
using pgolf::testing::RunSettings;

/// Random numbers that bfloat16 can hold, so that they are the same in every dtype.
at::Tensor exact_numbers(at::IntArrayRef shape, int64_t seed, double scale = 1) {
  return (random_tensor(shape, seed) * scale).to(at::kBFloat16).to(at::kDouble);
}

// Linear layers.

struct LinearShape {
  std::vector<int64_t> rows;      ///< leading dimensions of x
  int64_t width;                  ///< of x
  std::vector<int64_t> features;  ///< of the output: one, or of q, k and v
};

std::string describe(const LinearShape& shape) {
  return c10::str("rows ", at::IntArrayRef(shape.rows), ", width ", shape.width, ", features ", at::IntArrayRef(shape.features));
}

struct MicroBatchResults {
  Tensors outputs, input_gradients;  ///< of all micro-batches
  Tensors weight_gradients;          ///< their sums over the micro-batches
};

/// Several micro-batches with the same weights.
MicroBatchResults run_micro_batches(const LinearShape& shape, const at::Device& device, at::ScalarType dtype,
                                    at::ScalarType weight_dtype, OpsPath path) {
  std::vector<LinearWeight> weights;
  int64_t seed = 0;
  const double size = 1 / std::sqrt(static_cast<double>(shape.width));
  for (const int64_t count : shape.features) {
    weights.emplace_back(exact_numbers({count, shape.width}, ++seed, size).to(device, weight_dtype).requires_grad_());
  }
  auto sizes = shape.rows;
  sizes.push_back(shape.width);
  MicroBatchResults results;
  std::vector<const void*> memory(weights.size());
  constexpr int count = 8;
  for (int batch = 0; batch < count; ++batch) {
    const auto x = exact_numbers(sizes, ++seed).to(device, dtype).requires_grad_();
    Tensors outputs;
    if (weights.size() == 1) {
      outputs = {linear(x, weights[0], path)};
    } else {
      for (const auto& output : linear_qkv(x, weights[0], weights[1], weights[2], path)) outputs.push_back(output);
    }
    at::Tensor sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device));
    for (const auto& output : outputs) {
      const auto incoming = exact_numbers(output.sizes(), ++seed).to(device, dtype);
      sum = sum + (output * incoming).to(at::kDouble).sum();
      results.outputs.push_back(output.detach());
    }
    sum.backward();
    results.input_gradients.push_back(x.grad());
    for (size_t i = 0; i < weights.size(); ++i) {
      const void* const now = weights[i].value.grad().const_data_ptr();
      if (batch > 0) {
        EXPECT_EQ(now, memory[i]) << "the gradient of weight " << i << " moved";
      }
      memory[i] = now;
    }
  }
  for (const auto& weight : weights) results.weight_gradients.push_back(weight.value.grad());
  return results;
}

const std::vector<LinearShape>& linear_shapes() {
  static const std::vector<LinearShape> shapes{
      {{4, 33}, 64, {96}},           {{1, 300}, 128, {256}},    {{2, 9}, 20, {36}},        {{1, 1}, 64, {128}},
      {{2, 65}, 128, {128, 64, 64}}, {{2, 9}, 20, {36, 12, 8}}, {{1, 1}, 64, {64, 32, 32}}};
  return shapes;
}

class DeviceLinear : public DeviceTest {};

TEST_P(DeviceLinear, Float32) {
  for (const auto& shape : linear_shapes()) {
    SCOPED_TRACE(describe(shape));
    expect_runs([&] {
      const auto exact = run_micro_batches(shape, at::kCPU, at::kDouble, at::kDouble, OpsPath::reference);
      const auto got = run_micro_batches(shape, device(), at::kFloat, at::kFloat, OpsPath::fast);
      // Sums of up to 300 terms in float32: some 2^-24 each. AMX tiles hold float32 products to 2^-17 of each term.
      for (size_t i = 0; i < exact.outputs.size(); ++i) EXPECT_LE(largest_error(got.outputs[i], exact.outputs[i]), 1e-5) << i;
      for (size_t i = 0; i < exact.input_gradients.size(); ++i)
        EXPECT_LE(largest_error(got.input_gradients[i], exact.input_gradients[i]), 3e-5) << i;
      for (size_t i = 0; i < exact.weight_gradients.size(); ++i)
        EXPECT_LE(largest_error(got.weight_gradients[i], exact.weight_gradients[i]), 3e-5) << i;
    });
  }
}

TEST_P(DeviceLinear, Bfloat16AddsUpWeightGradientsInFloat32) {
  // What is stored in bfloat16 is rounded once, by at most 2^-9 = 2e-3 of each entry; twice where cuBLAS splits a long sum.
  constexpr double stored = 4e-3;
  // Products of bfloat16 numbers are exact in float32 and the sums are kept in it; a gradient that was rounded to bfloat16 on the
  // way would be off by 1e-3. It is so on processors with AVX-512 BF16 but without tiles: LibTorch's product there has no
  // other result.
  const bool rounded = !on_cuda() && cpu_level() == CpuLevel::avx512bf16;
  const double added = rounded ? 3e-3 : 2e-5;
  for (const auto& shape : linear_shapes()) {
    SCOPED_TRACE(describe(shape));
    expect_runs([&] {
      const auto exact = run_micro_batches(shape, at::kCPU, at::kDouble, at::kDouble, OpsPath::reference);
      const auto got = run_micro_batches(shape, device(), at::kBFloat16, at::kFloat, OpsPath::fast);
      for (size_t i = 0; i < exact.outputs.size(); ++i) {
        EXPECT_EQ(got.outputs[i].scalar_type(), at::kBFloat16);
        EXPECT_LE(mean_error(got.outputs[i], exact.outputs[i]), stored) << i;
      }
      for (size_t i = 0; i < exact.input_gradients.size(); ++i) {
        EXPECT_EQ(got.input_gradients[i].scalar_type(), at::kBFloat16);
        EXPECT_LE(mean_error(got.input_gradients[i], exact.input_gradients[i]), stored) << i;
      }
      for (size_t i = 0; i < exact.weight_gradients.size(); ++i) {
        EXPECT_EQ(got.weight_gradients[i].scalar_type(), at::kFloat);
        EXPECT_LE(mean_error(got.weight_gradients[i], exact.weight_gradients[i]), added) << i;
      }
    });
  }
}

PGOLF_ON_EVERY_DEVICE(DeviceLinear);

// Attention.

struct HeadsShape {
  int64_t batch, heads, kv_heads, queries, keys, dim, window = 0;
};

std::string describe(const HeadsShape& s) {
  return c10::str("B=", s.batch, " H=", s.heads, "/", s.kv_heads, " T=", s.queries, " of ", s.keys, " D=", s.dim, " window ",
                  s.window);
}

/// The formula, written out: with more keys than queries both paths of the operation have the same form.
at::Tensor attention_by_formula(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window) {
  const int64_t queries = q.size(2), keys = k.size(2), group = q.size(1) / k.size(1);
  auto hidden = at::ones({queries, keys}, at::kBool).triu(keys - queries + 1);
  if (window > 0) hidden = hidden.logical_or(at::ones({queries, keys}, at::kBool).tril(keys - queries - window));
  const auto scores = at::matmul(q, k.repeat_interleave(group, 1).transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  return at::matmul(at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1),
                    v.repeat_interleave(group, 1));
}

using Attention = std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window)>;

at::Tensor fast_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window) {
  return causal_attention(q, k, v, OpsPath::fast, window);
}

/// Inputs as the model has them. Without a cache: q and k dense, v a transposed projection. With one (more keys than queries):
/// keys and values are the beginning of a longer buffer.
Op attention_of(const HeadsShape& s, const Attention& attention) {
  return [s, attention](const Tensors& in) {
    if (s.keys == s.queries) return Tensors{attention(in[0], in[1], in[2].transpose(1, 2), s.window)};
    return Tensors{attention(in[0], in[1].narrow(2, 0, s.keys), in[2].narrow(2, 0, s.keys), s.window)};
  };
}

Tensors attention_inputs_of(const HeadsShape& s) {
  const auto q = exact_numbers({s.batch, s.heads, s.queries, s.dim}, 1);
  if (s.keys == s.queries)
    return {q, exact_numbers({s.batch, s.kv_heads, s.keys, s.dim}, 2), exact_numbers({s.batch, s.keys, s.kv_heads, s.dim}, 3)};
  const int64_t room = (s.keys / 64 + 1) * 64;
  return {q, exact_numbers({s.batch, s.kv_heads, room, s.dim}, 2), exact_numbers({s.batch, s.kv_heads, room, s.dim}, 3)};
}

/// Every number of heads to a key: one (MHA), two (GQA), all (MQA); and every size of head, the last one larger than any fused
/// form takes.
std::vector<HeadsShape> all_heads(int64_t queries, int64_t keys) {
  std::vector<HeadsShape> shapes;
  for (const int64_t dim : {64, 128, 320}) {
    for (const int64_t kv_heads : {4, 2, 1}) shapes.push_back({2, 4, kv_heads, queries, keys, dim});
  }
  return shapes;
}

class DeviceAttention : public DeviceTest {
 protected:
  /// float32: sums in another order and exp to 2^-23; the gradients' cancel a little.
  /// bfloat16: roundings to 2^-9 = 2e-3 in series, forward the probabilities and the result, backward those, the incoming
  /// gradient's products and the result; each has a root mean square of about half of that.
  void expect_exact(const HeadsShape& shape, at::ScalarType dtype) {
    SCOPED_TRACE(describe(shape) + (dtype == at::kFloat ? " float32" : " bfloat16"));
    expect_runs([&] {
      const auto inputs = attention_inputs_of(shape);
      const auto exact = differentiate(attention_of(shape, attention_by_formula), inputs);
      const RunSettings settings(device(), dtype);
      Tensors there;
      for (const auto& input : inputs) there.push_back(input.to(device(), dtype));
      const auto op = attention_of(shape, fast_attention);
      {
        const at::NoGradGuard no_grad;
        expect_close_enough(op(there)[0], exact.values[0], dtype, "value without gradients");
      }
      const auto got = differentiate(op, there);
      EXPECT_EQ(got.values[0].scalar_type(), dtype);
      expect_close_enough(got.values[0], exact.values[0], dtype, "value");
      for (size_t i = 0; i < 3; ++i) {
        const auto what = c10::str("gradient of ", "qkv"[i]);
        expect_close_enough(got.gradients[i], exact.gradients[i], dtype, what, /*gradient=*/true);
      }
    });
  }

  void expect_exact(const std::vector<HeadsShape>& shapes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const auto& shape : shapes) expect_exact(shape, dtype);
    }
  }

 private:
  static void expect_close_enough(const at::Tensor& got, const at::Tensor& exact, at::ScalarType dtype, const std::string& what,
                                  bool gradient = false) {
    ASSERT_EQ(got.sizes(), exact.sizes()) << what;
    if (dtype == at::kFloat) {
      EXPECT_LE(largest_error(got, exact), gradient ? 3e-5 : 1e-5) << what;
    } else {
      EXPECT_LE(mean_error(got, exact), gradient ? 1e-2 : 5e-3) << what;
    }
  }
};

TEST_P(DeviceAttention, Causal) {
  expect_exact(all_heads(96, 96));
  expect_exact({{1, 4, 2, 33, 33, 64}, {3, 2, 1, 7, 7, 128}, {1, 8, 4, 300, 300, 64}});
}

TEST_P(DeviceAttention, OneQueryOfManyKeys) {
  expect_exact(all_heads(1, 37));
  expect_exact({{1, 4, 2, 1, 2, 64}, {1, 4, 2, 1, 129, 64}});
}

TEST_P(DeviceAttention, SeveralQueriesAtTheEnd) {
  expect_exact(all_heads(5, 37));
  expect_exact({{1, 4, 2, 64, 128, 64}, {1, 4, 2, 3, 129, 128}});
}

TEST_P(DeviceAttention, WithinAWindow) {
  std::vector<HeadsShape> shapes{{1, 4, 2, 1, 129, 64, 40}, {2, 4, 2, 5, 37, 64, 9}, {1, 8, 4, 300, 300, 64, 64}};
  for (const int64_t window : {2, 17, 95}) {
    for (auto shape : all_heads(96, 96)) {
      shape.window = window;
      shapes.push_back(shape);
    }
  }
  expect_exact(shapes);
}

PGOLF_ON_EVERY_DEVICE(DeviceAttention);

// Muon.

/// Tall, wide and square ones, pairs that are each other's transposes, and several of one shape.
const std::vector<std::pair<int64_t, int64_t>>& matrix_shapes() {
  static const std::vector<std::pair<int64_t, int64_t>> shapes{{32, 32},   {64, 160}, {160, 64}, {96, 96}, {64, 160}, {256, 128},
                                                               {128, 256}, {100, 76}, {50, 130}, {1, 5},   {5, 1}};
  return shapes;
}

std::vector<MuonMatrix> matrices_on(const at::Device& device, at::ScalarType dtype) {
  std::vector<MuonMatrix> matrices;
  int64_t seed = 0;
  for (const auto& [rows, columns] : matrix_shapes()) {
    const auto random = [&, rows = rows, columns = columns](double scale) {
      return (random_tensor({rows, columns}, ++seed) * scale).to(device, dtype);
    };
    const auto parameter = random(1), gradient = random(1e-3);
    matrices.push_back({parameter, gradient, random(2e-3)});
  }
  return matrices;
}

using MuonUpdateOn = std::function<void(const std::vector<MuonMatrix>&, const MuonStep&)>;

struct Changed {
  Tensors parameters;  ///< by how much
  Tensors buffers;     ///< as they are then
};

struct MuonKind {
  const char* name;
  double weight_decay;
  bool normalize_rows;
};
constexpr MuonKind kMuonKinds[] = {{"plain", 0, false}, {"with decay", 0.1, false}, {"with decay and row norms", 0.1, true}};

/// Three updates with a momentum and a rate that change.
Changed three_updates(const at::Device& device, at::ScalarType stored, at::ScalarType computed, const MuonKind& kind,
                      const MuonUpdateOn& update, bool scalars_on_device) {
  const auto before = matrices_on(device, stored), after = matrices_on(device, stored);
  MuonStep step{0, 0, 5, computed, kind.weight_decay, kind.normalize_rows};
  if (scalars_on_device) {
    step.device_momentum = at::zeros({}, at::TensorOptions().dtype(at::kFloat).device(device));
    step.device_lr = at::zeros_like(step.device_momentum);
    step.device_keep = at::zeros_like(step.device_momentum);
    step.momentum = step.lr = std::nan("");  // must not be read
  }
  for (const auto& [momentum, lr] : {std::pair{0.85, 0.5}, {0.9, 0.25}, {0.95, 0.125}}) {
    if (scalars_on_device) {
      step.device_momentum.fill_(momentum);
      step.device_lr.fill_(lr);
      step.device_keep.fill_(1 - lr * kind.weight_decay);
    } else {
      step.momentum = momentum;
      step.lr = lr;
    }
    update(after, step);
  }
  Changed changed;
  for (size_t i = 0; i < before.size(); ++i) {
    changed.parameters.push_back(after[i].parameter - before[i].parameter);
    changed.buffers.push_back(after[i].momentum_buffer);
  }
  return changed;
}

MuonUpdateOn update_by(OpsPath path) {
  return [path](const std::vector<MuonMatrix>& matrices, const MuonStep& step) { muon_update_(matrices, step, path); };
}

class DeviceMuon : public DeviceTest {
 protected:
  /// f(the form's name, what it changed), for every form that works on this device.
  template <class F>
  void for_each_form(at::ScalarType dtype, const MuonKind& kind, const F& f) {
    const auto changed_by = [&](const MuonUpdateOn& update, bool scalars_on_device) {
      return three_updates(device(), at::kFloat, dtype, kind, update, scalars_on_device);
    };
    f("fast", changed_by(update_by(OpsPath::fast), /*scalars_on_device=*/on_cuda()));
    f("batched", changed_by(batched_muon_update_, /*scalars_on_device=*/true));
    f("batched, numbers", changed_by(batched_muon_update_, /*scalars_on_device=*/false));
  }
};

TEST_P(DeviceMuon, Float32) {
  for (const auto& kind : kMuonKinds) {
    const auto exact = three_updates(at::kCPU, at::kDouble, at::kDouble, kind, update_by(OpsPath::reference), false);
    for_each_form(at::kFloat, kind, [&](const char* form, const Changed& got) {
      for (size_t i = 0; i < matrix_shapes().size(); ++i) {
        SCOPED_TRACE(c10::str(form, ", ", kind.name, ", ", matrix_shapes()[i].first, " x ", matrix_shapes()[i].second));
        // Newton-Schulz multiplies small singular values, and their errors, by 3.44^5 = 485: 485 * 2^-24 = 3e-5.
        EXPECT_LE(largest_error(got.parameters[i], exact.parameters[i]), 3e-5);
        EXPECT_LE(largest_error(got.buffers[i], exact.buffers[i]), 1e-6);
      }
    });
  }
}

TEST_P(DeviceMuon, Bfloat16IsAsGoodAsTheReference) {
  for (const auto& kind : kMuonKinds) {
    const auto exact = three_updates(at::kCPU, at::kDouble, at::kDouble, kind, update_by(OpsPath::reference), false);
    const auto reference = three_updates(at::kCPU, at::kFloat, at::kBFloat16, kind, update_by(OpsPath::reference), false);
    for_each_form(at::kBFloat16, kind, [&](const char* form, const Changed& got) {
      for (size_t i = 0; i < matrix_shapes().size(); ++i) {
        const auto [rows, columns] = matrix_shapes()[i];
        SCOPED_TRACE(c10::str(form, ", ", kind.name, ", ", rows, " x ", columns));
        // Few roundings of a vector's single singular value make no statistic; they are up to ten in series of 2^-9 each.
        const bool vector = std::min(rows, columns) == 1;
        const double error = mean_error(reference.parameters[i], exact.parameters[i]);
        EXPECT_LE(mean_error(got.parameters[i], exact.parameters[i]), vector ? 2e-2 : 1.2 * error);
        EXPECT_LE(error, 0.05) << "the comparison is meaningful";
        EXPECT_LE(largest_error(got.buffers[i], exact.buffers[i]), 1e-6);
      }
    });
  }
}

PGOLF_ON_EVERY_DEVICE(DeviceMuon);

}  // namespace
}  // namespace pgolf::ops::testing::devices
