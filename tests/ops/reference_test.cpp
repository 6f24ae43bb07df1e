// The reference definitions: closed forms, numeric gradients (those of the fast path with them), Newton-Schulz.
#include <limits>

#include "ops/ops_testing.h"
#include "pgolf/ops/attention.h"
#include "pgolf/ops/cross_entropy.h"
#include "pgolf/ops/mlp.h"
#include "pgolf/ops/newton_schulz.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"

namespace pgolf::ops::testing {
namespace {

/// In float64 (which only the reference takes) tightly, in float32 on both paths with room for the rounding.
void expect_numeric_gradients(const std::function<Op(OpsPath)>& path_op, const Tensors& inputs) {
  EXPECT_LE(numeric_gradient_distance(path_op(OpsPath::reference), cast(inputs, at::kDouble), 1e-5), 1e-6);
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    EXPECT_LE(numeric_gradient_distance(path_op(path), inputs, 1e-2), 1e-2) << (path == OpsPath::fast ? "fast" : "reference");
  }
}

TEST(NumericGradients, RmsNorm) {
  expect_numeric_gradients([](OpsPath path) { return [path](const Tensors& in) { return Tensors{rms_norm(in[0], path)}; }; },
                           {random_tensor({2, 3, 20}, 1)});
}

TEST(NumericGradients, LeakySquared) {
  for (const double slope : {0.0, 0.5}) {
    expect_numeric_gradients(
        [slope](OpsPath path) { return [slope, path](const Tensors& in) { return Tensors{leaky_squared(in[0], slope, path)}; }; },
        {random_tensor({2, 3, 20}, 1)});
  }
}

TEST(NumericGradients, Swiglu) {
  expect_numeric_gradients([](OpsPath path) { return [path](const Tensors& in) { return Tensors{swiglu(in[0], in[1], path)}; }; },
                           {random_tensor({2, 3, 20}, 1), random_tensor({2, 3, 20}, 2)});
}

TEST(NumericGradients, ResidualMix) {
  expect_numeric_gradients(
      [](OpsPath path) { return [path](const Tensors& in) { return Tensors{residual_mix(in[0], in[1], in[2], path)}; }; },
      {random_tensor({2, 3, 20}, 1), random_tensor({2, 3, 20}, 2), random_tensor({2, 20}, 3)});
}

TEST(NumericGradients, ScaledAdd) {
  expect_numeric_gradients(
      [](OpsPath path) { return [path](const Tensors& in) { return Tensors{scaled_add(in[0], in[1], in[2], path)}; }; },
      {random_tensor({2, 3, 20}, 1), random_tensor({20}, 2), random_tensor({2, 3, 20}, 3)});
}

TEST(NumericGradients, GatedSkip) {
  expect_numeric_gradients(
      [](OpsPath path) { return [path](const Tensors& in) { return Tensors{gated_skip(in[0], in[1], in[2], in[3], path)}; }; },
      {random_tensor({2, 3, 20}, 1), random_tensor({2, 3, 20}, 2), random_tensor({20}, 3), random_tensor({20}, 4)});
}

TEST(NumericGradients, NormsTimesAFactor) {
  expect_numeric_gradients(
      [](OpsPath path) {
        return [path](const Tensors& in) {
          const auto added = scaled_add_norm(in[0], in[2], in[1], path, 0.5);
          return Tensors{added.x, added.normed, rms_norm(in[0], path, 0.25)};
        };
      },
      {random_tensor({2, 3, 20}, 1), random_tensor({2, 3, 20}, 2), random_tensor({20}, 3)});
}

TEST(NumericGradients, SoftcapCrossEntropy) {
  const auto targets = at::tensor({int64_t{3}, int64_t{0}, int64_t{19}});
  const Tensors inputs{random_tensor({3, 20}, 1) * 3};
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    const Op op = [&](const Tensors& in) { return Tensors{softcap_cross_entropy(in[0], targets, 5.0, path)}; };
    EXPECT_LE(numeric_gradient_distance(op, inputs, 2e-2), 1e-2) << (path == OpsPath::fast ? "fast" : "reference");
  }
}

TEST(CausalAttention, IsTheMaskedSoftmaxWithSharedKeysAndValues) {
  const int64_t time = 9, dim = 16;
  const auto q = random_tensor({2, 4, time, dim}, 1);
  const auto k = random_tensor({2, 2, time, dim}, 2), v = random_tensor({2, 2, time, dim}, 3);
  const auto keys = k.repeat_interleave(2, 1), values = v.repeat_interleave(2, 1);
  auto scores = at::matmul(q, keys.transpose(-1, -2)) / 4.0;
  scores = scores.masked_fill(at::ones({time, time}, at::kBool).triu(1), -std::numeric_limits<double>::infinity());
  const auto expected = at::matmul(at::softmax(scores, -1), values);
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    EXPECT_LE(distance(causal_attention(q, k, v, path), expected), 1e-5);
  }
}

TEST(NewtonSchulz, BringsSingularValuesNearOne) {
  const auto result = newton_schulz(random_tensor({48, 80}, 1), 10, at::kFloat);
  const auto values = at::linalg_svdvals(result);
  EXPECT_GT(values.min().item<double>(), 0.6);
  EXPECT_LT(values.max().item<double>(), 1.25);
}

TEST(NewtonSchulz, KeepsTheSingularVectors) {
  // U diag(s) V^T -> U diag(f(s)) V^T, so G^T X is symmetric.
  const auto gradient = random_tensor({24, 24}, 2);
  const auto product = at::mm(gradient.t(), newton_schulz(gradient, 5, at::kFloat));
  EXPECT_LE(distance(product, product.t()), 1e-4);
}

TEST(NewtonSchulz, ZeroStaysZero) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto result = newton_schulz(at::zeros({8, 12}), 5, dtype);
    EXPECT_EQ(result.scalar_type(), dtype);
    EXPECT_TRUE(result.equal(at::zeros({8, 12}, dtype)));
  }
}

TEST(NewtonSchulz, CommutesWithTransposition) {
  const auto gradient = random_tensor({20, 44}, 3);
  const auto wide = newton_schulz(gradient, 5, at::kFloat), tall = newton_schulz(gradient.t().contiguous(), 5, at::kFloat);
  EXPECT_EQ(tall.sizes(), (std::vector<int64_t>{44, 20}));
  EXPECT_LE(distance(tall.t(), wide), 1e-5);
}

TEST(NewtonSchulz, LeavesTheGradientAlone) {
  const auto gradient = random_tensor({8, 12}, 4), before = gradient.clone();
  newton_schulz(gradient, 5, at::kFloat);
  EXPECT_TRUE(gradient.equal(before));
}

}  // namespace
}  // namespace pgolf::ops::testing
