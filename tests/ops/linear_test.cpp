// linear, linear_qkv and leaky_squared_mlp: the fast form against the reference.
#include "pgolf/ops/linear.h"

#include <limits>

#include "ops/ops_testing.h"
#include "pgolf/base/cpu_level.h"

namespace pgolf::ops::testing {
namespace {

PathOp linear_op() {
  return [](OpsPath path) { return [path](const Tensors& in) { return Tensors{linear(in[0], LinearWeight(in[1]), path)}; }; };
}

PathOp qkv_op() {
  return [](OpsPath path) {
    return [path](const Tensors& in) {
      const auto results = linear_qkv(in[0], LinearWeight(in[1]), LinearWeight(in[2]), LinearWeight(in[3]), path);
      return Tensors(results.begin(), results.end());
    };
  };
}

PathOp mlp_op(double slope) {
  return [slope](OpsPath path) {
    return [slope, path](const Tensors& in) {
      return Tensors{leaky_squared_mlp(in[0], LinearWeight(in[1]), LinearWeight(in[2]), slope, path)};
    };
  };
}

void check(at::IntArrayRef shape, int64_t width, int64_t hidden) {
  SCOPED_TRACE(c10::str("rows ", shape, ", width ", width, ", hidden ", hidden));
  auto sizes = shape.vec();
  sizes.push_back(width);
  const auto x = random_tensor(sizes, 1);
  expect_fast_equals_reference(linear_op(), {x, random_weight(hidden, width, 2)}, /*parameters=*/1);
  expect_fast_equals_reference(
      qkv_op(), {x, random_weight(hidden, width, 2), random_weight(width, width, 3), random_weight(width, width, 4)}, 1);
  for (const double slope : {0.0, 0.5})
    expect_fast_equals_reference(mlp_op(slope), {x, random_weight(hidden, width, 2), random_weight(width, hidden, 3)}, 1);
}

TEST(Linear, FastEqualsReference) {
  check({3, 5}, 96, 128);
  check({2, 16}, 64, 160);
  check({3, 43}, 64, 96);
  check({1, 300}, 128, 256);
  check({9}, 512, 256);
}

TEST(Linear, OneRow) {
  const auto x = random_tensor({1, 1, 32}, 1).to(at::kBFloat16), w = random_weight(64, 32, 2);
  const auto got = differentiate(linear_op()(OpsPath::fast), {x, w}),
             expected = differentiate(linear_op()(OpsPath::reference), {x, w});
  // Sums in another order may round to the neighbor: 2^-8 = 3.9e-3 of the largest entry at most.
  EXPECT_LE(distance(got.values[0], expected.values[0]), 4e-3);
  for (size_t i = 0; i < 2; ++i) EXPECT_LE(distance(got.gradients[i], expected.gradients[i]), 4e-3) << i;
}

TEST(Linear, WidthsThatAreNotMultiplesOfATile) {
  check({2, 9}, 20, 36);
  check({2, 33}, 32, 100);
}

TEST(Linear, OneProductForThreeWeights) {
  // Without tiles, as here for double: one product with the rows of q, k and v.
  const auto x = random_tensor({3, 11, 20}, 1).to(at::kDouble);
  const Tensors inputs{x, random_weight(36, 20, 2), random_weight(12, 20, 3), random_weight(8, 20, 4)};
  const auto fast = differentiate(qkv_op()(OpsPath::fast), inputs),
             expected = differentiate(qkv_op()(OpsPath::reference), inputs);
  for (size_t i = 0; i < 3; ++i) EXPECT_LE(distance(fast.values[i], expected.values[i]), 1e-12) << i;
  // The weights' gradients are stored in float32.
  for (size_t i = 0; i < 4; ++i) EXPECT_LE(distance(fast.gradients[i], expected.gradients[i]), 1e-6) << i;

  auto leaf = random_weight(36, 20, 2).requires_grad_();
  const LinearWeight q(leaf), k(random_weight(12, 20, 3)), v(random_weight(8, 20, 4));
  const auto before = linear_qkv(x, q, k, v, OpsPath::fast)[0].detach();
  {
    at::NoGradGuard no_grad;
    leaf.mul_(2);
  }
  EXPECT_LE(distance(linear_qkv(x, q, k, v, OpsPath::fast)[0], 2 * before), 1e-12) << "a changed weight is seen";
}

TEST(Linear, WeightInTheActivationsDtype) {
  // As tok_emb is in bfloat16 training: its gradient goes through autograd in its own dtype. Where bfloat16 is multiplied in
  // vectors there is nothing better than LibTorch's product.
  expect_fast_equals_reference(linear_op(), {random_tensor({5, 13, 64}, 1), random_weight(96, 64, 2)}, /*parameters=*/99,
                               /*own_bfloat16=*/cpu_level() != CpuLevel::avx512bf16);
}

TEST(Linear, GradientsAddUpInPlace) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const int64_t width : {64, 20}) {
      Tensors gradients;
      for (const auto path : {OpsPath::reference, OpsPath::fast}) {
        auto leaf = random_weight(32, width, 1).requires_grad_();
        const LinearWeight prepared(leaf);
        void* memory = nullptr;
        for (int64_t seed = 2; seed < 5; ++seed) {
          linear(random_tensor({4, 11, width}, seed).to(dtype), prepared, path).sum().backward();
          if (path == OpsPath::fast && memory != nullptr) {
            EXPECT_EQ(leaf.grad().data_ptr(), memory);
          }
          memory = leaf.grad().data_ptr();
        }
        gradients.push_back(leaf.grad());
      }
      EXPECT_EQ(gradients[1].scalar_type(), at::kFloat);
      // In bfloat16 the reference rounds each of the three gradients before it adds them, which is up to 3 * 2^-9 of the largest.
      EXPECT_LE(distance(gradients[1], gradients[0]), dtype == at::kFloat ? 3e-5 : 1e-2);
    }
  }
}

TEST(Linear, ChangedWeightsAreSeen) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    auto leaf = random_weight(32, 64, 1).requires_grad_();
    const LinearWeight prepared(leaf);
    const auto x = random_tensor({3, 64}, 2).to(dtype);
    const auto before = linear(x, prepared, OpsPath::fast).detach();
    {
      at::NoGradGuard no_grad;
      leaf.mul_(2);
    }
    EXPECT_TRUE(at::allclose(linear(x, prepared, OpsPath::fast), 2 * before, 1e-6)) << "changed in place";
    leaf.set_data(leaf.detach() * 2);
    EXPECT_TRUE(at::allclose(linear(x, prepared, OpsPath::fast), 4 * before, 1e-6)) << "new memory";
  }
}

TEST(Linear, FrozenWeightsGetNoGradient) {
  const auto x = random_tensor({3, 64}, 2).to(at::kBFloat16).requires_grad_();
  const auto frozen = random_weight(32, 64, 1);
  linear(x, LinearWeight(frozen), OpsPath::fast).sum().backward();
  EXPECT_FALSE(frozen.grad().defined());
  EXPECT_TRUE(x.grad().defined());
}

TEST(Linear, SecondDerivativeIsRefused) {
  auto x = random_tensor({3, 64}, 2).to(at::kBFloat16).requires_grad_();
  const auto y =
      leaky_squared_mlp(x, LinearWeight(random_weight(32, 64, 1)), LinearWeight(random_weight(64, 32, 2)), 0, OpsPath::fast);
  EXPECT_THROW(torch::autograd::grad({y.sum()}, {x}, {}, true, /*create_graph=*/true), c10::Error);
}

TEST(Linear, InfinityAndNanPropagate) {
  for (const float poison : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      auto x = random_tensor({40, 64}, 2).to(dtype);
      x[3][5] = poison;
      const auto y =
          leaky_squared_mlp(x, LinearWeight(random_weight(32, 64, 1)), LinearWeight(random_weight(64, 32, 2)), 0, OpsPath::fast);
      EXPECT_FALSE(y[3].isfinite().any().item<bool>());
      EXPECT_TRUE(y[2].isfinite().all().item<bool>());
    }
  }
}

/// The same values and gradients for any number of threads.
void expect_same_from_any_threads(const PathOp& op, const Tensors& inputs) {
  const int threads = at::get_num_threads();
  std::vector<Results> results;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    results.push_back(differentiate(op(OpsPath::fast), inputs));
  }
  at::set_num_threads(threads);
  for (size_t i = 1; i < results.size(); ++i) {
    for (size_t j = 0; j < results[0].values.size(); ++j) EXPECT_TRUE(results[i].values[j].equal(results[0].values[j])) << j;
    for (size_t j = 0; j < inputs.size(); ++j) EXPECT_TRUE(results[i].gradients[j].equal(results[0].gradients[j])) << j;
  }
}

TEST(Linear, ThreadsDoNotChangeTheResult) {
  const auto x = random_tensor({2, 250, 128}, 1).to(at::kBFloat16);
  expect_same_from_any_threads(mlp_op(0), {x, random_weight(256, 128, 2), random_weight(128, 256, 3)});
}

TEST(Linear, ThreadsSplitTheColumnsOfFewRows) {
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    for (const int64_t rows : {1, 3, 32}) {
      SCOPED_TRACE(c10::str(dtype, ", rows ", rows));
      const auto x = random_tensor({rows, 384}, 1).to(dtype);
      const auto wide = random_weight(744, 384, 2);  // the last columns do not fill a panel
      expect_same_from_any_threads(linear_op(), {x, wide});
      expect_same_from_any_threads(qkv_op(), {x, wide, random_weight(200, 384, 3), random_weight(200, 384, 4)});
      expect_same_from_any_threads(mlp_op(0), {x, wide, random_weight(384, 744, 5)});
      if (dtype == at::kFloat) expect_fast_equals_reference(linear_op(), {x, wide}, /*parameters=*/1);
    }
  }
}

}  // namespace
}  // namespace pgolf::ops::testing
