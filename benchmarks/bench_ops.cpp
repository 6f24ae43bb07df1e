// bench_ops: times every operation by OpsPath::reference and by OpsPath::fast, at the shapes of the 9x512 baseline (one
// sequence of 1,024 tokens) and of the CPU presets; on a GPU with 64 times as many sequences. Use taskset to limit the threads.
//   build/bin/bench_ops --benchmark_filter='qk.*bfloat16.*backward'
//
// The benchmarks' names are OP/SHAPE/DTYPE/PATH/PASS. "forward" also saves what "backward" needs, as in training. Weights do
// not change between calls, so casting and packing them, which training does once per optimizer step, is not timed. qkv_heads
// does the work of linear_qkv and qk_norm_rope_gain; on the CPU it mostly runs one after the other.
//
// Counters: for products (and qkv_heads, where only the product counts), FLOP/s and their share of the matrix-product peak
// measured in the same dtype. For all others, bytes per second of inputs and outputs (backward: of inputs and all gradients),
// each counted once, and their share of the rate of a measured copy; the share may exceed 1 if the data fits into the caches.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <functional>
#include <string>
#include <vector>

#include "machine.h"
#include "pgolf/ops/attention.h"
#include "pgolf/ops/cross_entropy.h"
#include "pgolf/ops/exclusive.h"
#include "pgolf/ops/heads.h"
#include "pgolf/ops/linear.h"
#include "pgolf/ops/mlp.h"
#include "pgolf/ops/muon.h"
#include "pgolf/ops/newton_schulz.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"
#include "pgolf/ops/rope.h"

namespace pgolf::ops {
namespace {

using Tensors = std::vector<at::Tensor>;

struct Shape {
  const char* name;
  int64_t layers, batch, time, width, heads, kv_heads, hidden, vocab;

  int64_t rows() const { return batch * time; }
  int64_t head_dim() const { return width / heads; }
  int64_t kv_width() const { return kv_heads * head_dim(); }
};
// A micro-step on the CPU of the baseline, of configs/cpu_small.env and of configs/tiny.env.
constexpr Shape kShapes[] = {{"9x512", 9, 1, 1024, 512, 8, 4, 1024, 1024},
                             {"cpu_small", 6, 8, 256, 256, 4, 2, 512, 1024},
                             {"tiny", 4, 8, 128, 128, 4, 2, 256, 1024}};

/// Inputs of an op: activations, which have the dtype of the case, and parameters, which are float32. All have gradients.
struct Inputs {
  Tensors activations, parameters;
};
using Op = std::function<Tensors(const Tensors& activations, const Tensors& parameters, OpsPath path)>;

struct Case {
  std::string name;
  Inputs inputs;
  Op op;
  double flops = 0;  ///< of the forward pass, for products; backward has twice as many
};

at::Device device() {
  static const at::Device chosen = start_runtime({}).device;
  return chosen;
}

at::Tensor randn(at::IntArrayRef sizes) {
  return at::randn(sizes, device());
}

double peak_rate(at::ScalarType dtype, bool product) {
  static const double copy = copy_bandwidth(device()), float32 = matrix_peak(device(), at::kFloat),
                      bfloat16 = matrix_peak(device(), at::kBFloat16);
  return !product ? copy : dtype == at::kFloat ? float32 : bfloat16;
}

double bytes_of(const Tensors& tensors) {
  double bytes = 0;
  for (const auto& tensor : tensors) bytes += static_cast<double>(tensor.nbytes());
  return bytes;
}

/// Times one benchmark: each forward or backward pass is a sample, and the counters come from their sum.
class Meter {
 public:
  explicit Meter(benchmark::State& state) : state_(state) {}

  /// Times work, device included.
  void sample(const std::function<void()>& work) {
    using Clock = std::chrono::steady_clock;
    synchronize(device());
    const auto start = Clock::now();
    work();
    synchronize(device());
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    state_.SetIterationTime(seconds);
    total_ += seconds;
  }

  /// flops, bytes: of one sample; bytes are used if there are no flops.
  void count(double flops, double bytes, at::ScalarType dtype) {
    const bool product = flops > 0;
    const double rate = static_cast<double>(state_.iterations()) * (product ? flops : bytes) / total_;
    state_.counters[product ? "FLOP/s" : "bytes/s"] = rate;
    state_.counters[product ? "of_peak" : "of_copy"] = rate / peak_rate(dtype, product);
  }

 private:
  benchmark::State& state_;
  double total_ = 0;
};

/// Makes what a case throws its result, so that the cases after it still run.
void catching(benchmark::State& state, const std::function<void()>& work) {
  try {
    work();
  } catch (const c10::Error& error) {
    state.SkipWithError(error.what_without_backtrace());
  } catch (const std::exception& error) {
    state.SkipWithError(error.what());
  }
}

void run(benchmark::State& state, const Case& c, at::ScalarType dtype, OpsPath path, bool backward) {
  Inputs in;
  for (const auto& x : c.inputs.activations) in.activations.push_back(x.to(dtype, false, /*copy=*/true).requires_grad_());
  for (const auto& x : c.inputs.parameters) in.parameters.push_back(x.clone().requires_grad_());
  Tensors gradients, outputs = c.op(in.activations, in.parameters, path);
  for (const auto& output : outputs) gradients.push_back(at::randn_like(output));
  const double in_bytes = bytes_of(in.activations) + bytes_of(in.parameters), out_bytes = bytes_of(outputs);
  Meter meter(state);
  const auto forward = [&] { outputs = c.op(in.activations, in.parameters, path); };
  for (auto _ : state) {
    outputs.clear();
    if (!backward) {
      meter.sample(forward);
      continue;
    }
    forward();
    // Gradients of parameters accumulate, those of activations are new.
    for (auto& x : in.activations) x.mutable_grad() = at::Tensor();
    meter.sample([&] { torch::autograd::backward(outputs, gradients); });
  }
  meter.count(backward ? 2 * c.flops : c.flops, (backward ? 2 : 1) * in_bytes + out_bytes, dtype);
}

std::string case_name(const std::string& op, const std::string& shape, at::ScalarType dtype, OpsPath path) {
  return op + "/" + shape + (dtype == at::kFloat ? "/float32" : "/bfloat16") + (path == OpsPath::fast ? "/fast" : "/reference");
}

void add(const Shape& s, const Case& c) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const auto path : {OpsPath::reference, OpsPath::fast}) {
      for (const bool backward : {false, true}) {
        const std::string name = case_name(c.name, s.name, dtype, path) + (backward ? "/backward" : "/forward");
        const auto timed = [=](benchmark::State& state) { catching(state, [&] { run(state, c, dtype, path, backward); }); };
        benchmark::RegisterBenchmark(name.c_str(), timed)->Unit(benchmark::kMicrosecond)->UseManualTime();
      }
    }
  }
}

void add_elementwise(const Shape& s) {
  const auto stream = randn({s.batch, s.time, s.width}), other = at::randn_like(stream);
  const auto mix = randn({2, s.width}), scale = randn({s.width});
  add(s,
      {"rms_norm", {{stream}, {}}, [](const Tensors& x, const Tensors&, OpsPath path) { return Tensors{rms_norm(x[0], path)}; }});
  add(s, {"residual_mix", {{stream, other}, {mix}}, [](const Tensors& x, const Tensors& p, OpsPath path) {
            return Tensors{residual_mix(x[0], x[1], p[0], path)};
          }});
  add(s, {"residual_mix_norm", {{stream, other}, {mix}}, [](const Tensors& x, const Tensors& p, OpsPath path) {
            const auto [y, normed] = residual_mix_norm(x[0], x[1], p[0], path);
            return Tensors{y, normed};
          }});
  add(s, {"scaled_add", {{stream, other}, {scale}}, [](const Tensors& x, const Tensors& p, OpsPath path) {
            return Tensors{scaled_add(x[0], p[0], x[1], path)};
          }});
  add(s, {"scaled_add_norm", {{stream, other}, {scale}}, [](const Tensors& x, const Tensors& p, OpsPath path) {
            const auto [y, normed] = scaled_add_norm(x[0], p[0], x[1], path);
            return Tensors{y, normed};
          }});
  add(s, {"leaky_squared", {{randn({s.rows(), s.hidden})}, {}}, [](const Tensors& x, const Tensors&, OpsPath path) {
            return Tensors{leaky_squared(x[0], 0.5, path)};
          }});
  add(s, {"swiglu",
          {{randn({s.rows(), s.hidden}), randn({s.rows(), s.hidden})}, {}},
          [](const Tensors& x, const Tensors&, OpsPath path) { return Tensors{swiglu(x[0], x[1], path)}; }});

  const auto q = randn({s.batch, s.time, s.heads, s.head_dim()}), k = randn({s.batch, s.time, s.kv_heads, s.head_dim()});
  for (const int rope_dims : {16, static_cast<int>(s.head_dim())}) {
    const auto table = make_rope_table({static_cast<int>(s.head_dim()), rope_dims}, s.time, device());
    add(s, {"qk_norm_rope_gain:" + std::to_string(rope_dims),
            {{q, k}, {at::ones({s.heads}, device())}},
            [table](const Tensors& x, const Tensors& p, OpsPath path) {
              const auto [q, k] = qk_norm_rope_gain(x[0], x[1], p[0], &table, path);
              return Tensors{q, k};
            }});
  }
  add(s, {"exclude_value", {{q, k}, {}}, [](const Tensors& x, const Tensors&, OpsPath path) {
            return Tensors{exclude_value(x[0], x[1], path)};
          }});
  const auto targets = at::randint(s.vocab, {s.rows()}, at::TensorOptions(device()).dtype(at::kLong));
  add(s, {"softcap_cross_entropy", {{randn({s.rows(), s.vocab})}, {}}, [targets](const Tensors& x, const Tensors&, OpsPath path) {
            return Tensors{softcap_cross_entropy(x[0], targets, 30.0, path)};
          }});
}

/// An op on a [rows, width] input and float32 weights [out, in], which stay prepared between calls.
template <class F>
Case product(const char* name, const Shape& s, std::vector<std::pair<int64_t, int64_t>> sizes, F op) {
  std::vector<LinearWeight> weights;
  double flops = 0;
  for (const auto& [out, in] : sizes) {
    weights.emplace_back((randn({out, in}) * 0.02).requires_grad_());
    flops += 2.0 * static_cast<double>(s.rows() * out * in);
  }
  return {name,
          {{randn({s.rows(), sizes[0].second})}, {}},
          [=](const Tensors& x, const Tensors&, OpsPath path) { return op(x[0], weights, path); },
          flops};
}

void add_products(const Shape& s) {
  using Weights = std::vector<LinearWeight>;
  const auto one = [](const at::Tensor& x, const Weights& w, OpsPath path) { return Tensors{linear(x, w[0], path)}; };
  add(s, product("linear:proj", s, {{s.width, s.width}}, one));
  add(s, product("linear:head", s, {{s.vocab, s.width}}, one));
  add(s, product("linear_qkv", s, {{s.width, s.width}, {s.kv_width(), s.width}, {s.kv_width(), s.width}},
                 [](const at::Tensor& x, const Weights& w, OpsPath path) {
                   const auto [q, k, v] = linear_qkv(x, w[0], w[1], w[2], path);
                   return Tensors{q, k, v};
                 }));
  const auto table = make_rope_table({static_cast<int>(s.head_dim()), static_cast<int>(s.head_dim())}, s.time, device());
  const auto gain = at::ones({s.heads}, device()).requires_grad_();
  add(s, product("qkv_heads", s, {{s.width, s.width}, {s.kv_width(), s.width}, {s.kv_width(), s.width}},
                 [=](const at::Tensor& x, const Weights& w, OpsPath path) {
                   const auto [q, k, v] = qkv_heads(x.unflatten(0, {s.batch, s.time}), w[0], w[1], w[2], gain, &table, path);
                   return Tensors{q, k, v};
                 }));
  add(s, product("leaky_squared_mlp", s, {{s.hidden, s.width}, {s.width, s.hidden}},
                 [](const at::Tensor& x, const Weights& w, OpsPath path) {
                   return Tensors{leaky_squared_mlp(x, w[0], w[1], 0.5, path)};
                 }));
  const auto heads = [&](int64_t count) { return randn({s.batch, count, s.time, s.head_dim()}); };
  // On a GPU LibTorch has two backends for training; both are timed.
  const auto attention = [&](const char* name, bool cudnn) {
    add(s, {name,
            {{heads(s.heads), heads(s.kv_heads), heads(s.kv_heads)}, {}},
            [cudnn](const Tensors& x, const Tensors&, OpsPath path) {
              at::globalContext().setSDPUseCuDNN(cudnn);
              return Tensors{causal_attention(x[0], x[1], x[2], path)};
            },
            // The causal half of q k^T and of its product with v.
            2.0 * static_cast<double>(s.rows() * s.time * s.width)});
  };
  if (device().is_cuda()) {
    attention("causal_attention:cudnn", true);
    attention("causal_attention:flash", false);
  } else {
    attention("causal_attention", false);
  }
}

/// prepare() creates the operands and returns the function to time.
void add_muon_case(const std::string& name, const Shape& s, at::ScalarType dtype, OpsPath path, double flops,
                   const std::function<std::function<void()>()>& prepare) {
  const auto timed = [=](benchmark::State& state) {
    catching(state, [&] {
      const auto work = prepare();
      Meter meter(state);
      for (auto _ : state) meter.sample(work);
      meter.count(flops, 0, dtype);
    });
  };
  benchmark::RegisterBenchmark(case_name(name, s.name, dtype, path).c_str(), timed)
      ->Unit(benchmark::kMicrosecond)
      ->UseManualTime();
}

/// muon_update_ of the matrices of all blocks, and newton_schulz, which has only a reference form, on a single one.
void add_muon(const Shape& s) {
  const std::vector<std::pair<int64_t, int64_t>> sizes = {{s.width, s.width}, {s.kv_width(), s.width}, {s.kv_width(), s.width},
                                                          {s.width, s.width}, {s.hidden, s.width},     {s.width, s.hidden}};
  constexpr int iterations = 5;
  const auto flops = [](int64_t rows, int64_t columns) {
    const auto small = static_cast<double>(std::min(rows, columns)), large = static_cast<double>(std::max(rows, columns));
    return iterations * (4 * small * small * large + 2 * small * small * small);
  };
  double total = 0;
  for (const auto& [rows, columns] : sizes) total += static_cast<double>(s.layers) * flops(rows, columns);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const auto path : {OpsPath::reference, OpsPath::fast}) {
      add_muon_case("muon_update_", s, dtype, path, total, [=] {
        std::vector<MuonMatrix> matrices;
        for (int64_t layer = 0; layer < s.layers; ++layer) {
          for (const auto& [rows, columns] : sizes) {
            const auto parameter = randn({rows, columns});
            matrices.push_back({parameter, at::randn_like(parameter), at::zeros_like(parameter)});
          }
        }
        return [=] { muon_update_(matrices, {/*momentum=*/0.95, /*lr=*/0.01, iterations, dtype}, path); };
      });
    }
    add_muon_case("newton_schulz", s, dtype, OpsPath::reference, flops(s.width, s.width), [=] {
      const auto gradient = randn({s.width, s.width});
      return [=] { benchmark::DoNotOptimize(newton_schulz(gradient, iterations, dtype)); };
    });
  }
}

}  // namespace
}  // namespace pgolf::ops

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (auto shape : pgolf::ops::kShapes) {
    if (pgolf::ops::device().is_cuda()) shape.batch *= 64;
    pgolf::ops::add_elementwise(shape);
    pgolf::ops::add_products(shape);
    pgolf::ops::add_muon(shape);
  }
  benchmark::RunSpecifiedBenchmarks();
}
