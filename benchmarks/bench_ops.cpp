// Forward and backward time of every op, OpsPath::reference against OpsPath::fast, at the shapes of the 9x512 baseline
// (one sequence of 1,024 tokens) and of the small CPU preset. Bytes per second count each input, output and gradient once.
//   OMP_NUM_THREADS=1 build/bin/bench_ops --benchmark_filter='qk.*bfloat16'
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <functional>
#include <string>
#include <vector>

#include "pgolf/ops/cross_entropy.h"
#include "pgolf/ops/mlp.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"
#include "pgolf/ops/rope.h"

namespace pgolf::ops {
namespace {

using Tensors = std::vector<at::Tensor>;
using Op = std::function<Tensors(const Tensors&, OpsPath)>;

struct Shape {
  const char* name;
  int64_t batch, time, width, heads, kv_heads, hidden, vocab;
};
constexpr Shape kShapes[] = {{"9x512", 1, 1024, 512, 8, 4, 1024, 1024}, {"small", 8, 256, 256, 4, 2, 512, 1024}};

void run(benchmark::State& state, const Op& op, const Tensors& inputs, OpsPath path) {
  Tensors leaves;
  for (const auto& input : inputs) leaves.push_back(input.clone().requires_grad_());
  const auto outputs = op(leaves, path);
  Tensors gradients;
  int64_t bytes = 0;
  for (const auto& output : outputs) gradients.push_back(at::randn_like(output));
  for (const auto& tensors : {leaves, outputs}) {
    for (const auto& tensor : tensors) bytes += 2 * static_cast<int64_t>(tensor.nbytes());
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(torch::autograd::grad(op(leaves, path), leaves, gradients));
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}

void add(const std::string& name, const Op& op, const Tensors& inputs, size_t parameters) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Tensors typed = inputs;
    for (size_t i = 0; i < std::min(parameters, typed.size()); ++i) typed[i] = typed[i].to(dtype);
    for (const auto path : {OpsPath::reference, OpsPath::fast}) {
      const std::string full =
          name + (dtype == at::kFloat ? "/float32" : "/bfloat16") + (path == OpsPath::fast ? "/fast" : "/reference");
      benchmark::RegisterBenchmark(full.c_str(), [=](benchmark::State& state) { run(state, op, typed, path); })
          ->Unit(benchmark::kMicrosecond)
          ->UseRealTime();
    }
  }
}

void add_shape(const Shape& shape) {
  const std::string at_shape = std::string("/") + shape.name;
  const auto stream = [&] { return at::randn({shape.batch, shape.time, shape.width}); };
  add(
      "rms_norm" + at_shape, [](const Tensors& in, OpsPath path) { return Tensors{rms_norm(in[0], path)}; }, {stream()}, 1);
  add(
      "residual_mix" + at_shape, [](const Tensors& in, OpsPath path) { return Tensors{residual_mix(in[0], in[1], in[2], path)}; },
      {stream(), stream(), at::randn({2, shape.width})}, 2);
  add(
      "scaled_add" + at_shape, [](const Tensors& in, OpsPath path) { return Tensors{scaled_add(in[0], in[2], in[1], path)}; },
      {stream(), stream(), at::randn({shape.width})}, 2);
  add(
      "relu_squared" + at_shape, [](const Tensors& in, OpsPath path) { return Tensors{relu_squared(in[0], path)}; },
      {at::randn({shape.batch, shape.time, shape.hidden})}, 1);

  const int64_t head_dim = shape.width / shape.heads;
  for (const int rope_dims : {16, static_cast<int>(head_dim)}) {
    const auto table = make_rope_table({static_cast<int>(head_dim), rope_dims}, shape.time, at::kCPU);
    const auto q = at::randn({shape.batch, shape.time, shape.heads, head_dim});
    const auto k = at::randn({shape.batch, shape.time, shape.kv_heads, head_dim});
    add(
        "qk_norm_rope_gain/rope_dims:" + std::to_string(rope_dims) + at_shape,
        [table](const Tensors& in, OpsPath path) {
          const auto [q, k] = qk_norm_rope_gain(in[0], in[1], in[2], &table, path);
          return Tensors{q, k};
        },
        {q, k, at::ones({shape.heads})}, 2);
  }

  const int64_t rows = shape.batch * shape.time;
  const auto targets = at::randint(shape.vocab, {rows}, at::kLong);
  add(
      "softcap_cross_entropy" + at_shape,
      [targets](const Tensors& in, OpsPath path) { return Tensors{softcap_cross_entropy(in[0], targets, 30.0, path)}; },
      {at::randn({rows, shape.vocab})}, 1);
}

}  // namespace
}  // namespace pgolf::ops

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (const auto& shape : pgolf::ops::kShapes) pgolf::ops::add_shape(shape);
  benchmark::RunSpecifiedBenchmarks();
}
