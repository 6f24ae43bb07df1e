// OpsPath::fast on the CPU against OpsPath::reference: values and gradients.
#include <limits>

#include "ops/ops_testing.h"
#include "pgolf/ops/cross_entropy.h"
#include "pgolf/ops/mlp.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"
#include "pgolf/ops/rope.h"

namespace pgolf::ops::testing {
namespace {

TEST(FastCpu, RmsNorm) {
  const PathOp op = [](OpsPath path) { return [path](const Tensors& in) { return Tensors{rms_norm(in[0], path, 0.3)}; }; };
  for (const int64_t width : {1, 7, 100, 512}) expect_fast_equals_reference(op, {random_tensor({3, 33, width}, width)});
  expect_fast_equals_reference(op, {random_tensor({1, 1, 37}, 1)});
  expect_fast_equals_reference(op, {random_tensor({70, 64}, 2) * 1e-3});
}

TEST(FastCpu, RmsNormOfZerosIsZero) {
  const auto x = at::zeros({2, 16}).requires_grad_();
  const auto y = rms_norm(x, OpsPath::fast);
  EXPECT_TRUE(y.equal(at::zeros({2, 16})));
  y.sum().backward();
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
}

TEST(FastCpu, LeakySquared) {
  for (const double slope : {0.0, 0.5, -0.3, 1.5}) {
    const PathOp op = [slope](OpsPath path) {
      return [slope, path](const Tensors& in) { return Tensors{leaky_squared(in[0], slope, path)}; };
    };
    expect_fast_equals_reference(op, {random_tensor({3, 5, 100}, 1)});
    expect_fast_equals_reference(op, {random_tensor({1, 130, 33}, 2)});
  }
}

TEST(FastCpu, Swiglu) {
  const PathOp op = [](OpsPath path) { return [path](const Tensors& in) { return Tensors{swiglu(in[0], in[1], path)}; }; };
  expect_fast_equals_reference(op, {random_tensor({3, 5, 100}, 1), random_tensor({3, 5, 100}, 2)});
  expect_fast_equals_reference(op, {random_tensor({1, 130, 33}, 2) * 30, random_tensor({1, 130, 33}, 3)});
}

TEST(FastCpu, ResidualMix) {
  const PathOp op = [](OpsPath path) {
    return [path](const Tensors& in) { return Tensors{residual_mix(in[0], in[1], in[2], path)}; };
  };
  for (const auto& [batch, time, width] : {std::tuple<int, int, int>{1, 1, 5}, {3, 33, 100}, {1, 200, 64}}) {
    expect_fast_equals_reference(
        op, {random_tensor({batch, time, width}, 1), random_tensor({batch, time, width}, 2), random_tensor({2, width}, 3)}, 2);
  }
}

TEST(FastCpu, ScaledAdd) {
  const PathOp op = [](OpsPath path) {
    return [path](const Tensors& in) { return Tensors{scaled_add(in[0], in[2], in[1], path)}; };
  };
  for (const auto& [batch, time, width] : {std::tuple<int, int, int>{1, 1, 5}, {3, 33, 100}, {1, 200, 64}}) {
    expect_fast_equals_reference(
        op, {random_tensor({batch, time, width}, 1), random_tensor({batch, time, width}, 2), random_tensor({width}, 3)}, 2);
  }
}

/// q and k, [B, T, H, D], and the gain; rope_dims 0: no rotation.
void check_qk(int64_t batch, int64_t time, int64_t q_heads, int64_t k_heads, int head_dim, int rope_dims,
              RopeTableDtype table_dtype = RopeTableDtype::float32) {
  SCOPED_TRACE(c10::str("B=", batch, " T=", time, " H=", q_heads, "/", k_heads, " D=", head_dim, " R=", rope_dims));
  RopeTable table;
  if (rope_dims > 0) table = make_rope_table({head_dim, rope_dims, {.table_dtype = table_dtype}}, time, at::kCPU, 3);
  const RopeTable* const used = rope_dims > 0 ? &table : nullptr;
  const PathOp op = [used](OpsPath path) {
    return [used, path](const Tensors& in) {
      const auto [q, k] = qk_norm_rope_gain(in[0], in[1], in[2], used, path);
      return Tensors{q, k};
    };
  };
  const auto q = random_tensor({batch, time, q_heads, head_dim}, 1), k = random_tensor({batch, time, k_heads, head_dim}, 2);
  expect_fast_equals_reference(op, {q, k, random_tensor({q_heads}, 3) + 1.5}, 2);
}

TEST(FastCpu, QkNormRopeGain) {
  for (const int64_t batch : {1, 3}) {
    for (const int64_t time : {1, 5, 33}) {
      for (const int head_dim : {32, 64, 128}) {
        for (const int rope_dims : {0, 2, 6, 16, 48, head_dim}) {
          if (rope_dims <= head_dim) check_qk(batch, time, 4, 2, head_dim, rope_dims);
        }
      }
    }
  }
  check_qk(2, 150, 8, 4, 64, 16);  // several blocks of times
  check_qk(1, 9, 3, 3, 10, 6);
  check_qk(1, 9, 4, 1, 512, 16);
}

TEST(FastCpu, QkNormRopeGainReadsStridedInputs) {
  const int64_t batch = 2, time = 7, dim = 64;
  const auto table = make_rope_table({static_cast<int>(dim), 16}, time, at::kCPU);
  const PathOp op = [&](OpsPath path) {
    return [&, path](const Tensors& in) {
      const auto heads = in[0].view({batch, time, 6, dim});  // four query heads and two key heads of one projection
      const auto [q, k] = qk_norm_rope_gain(heads.narrow(2, 0, 4), heads.narrow(2, 4, 2), in[1], &table, path);
      return Tensors{q, k};
    };
  };
  expect_fast_equals_reference(op, {random_tensor({batch, time, 6 * dim}, 1), random_tensor({4}, 2)}, 1);
  const auto q = random_tensor({batch, dim, 2, time}, 3).transpose(1, 3);  // a large last stride
  const auto k = random_tensor({batch, dim, 1, time}, 4).transpose(1, 3);
  const auto fast = qk_norm_rope_gain(q, k, at::ones({2}), &table, OpsPath::fast);
  const auto expected = qk_norm_rope_gain(q, k, at::ones({2}), &table, OpsPath::reference);
  EXPECT_LE(distance(fast.first, expected.first), 1e-5);
  EXPECT_LE(distance(fast.second, expected.second), 1e-5);
}

TEST(FastCpu, QkNormRopeGainTakesABfloat16Table) {
  const auto table = make_rope_table({64, 64, {.table_dtype = RopeTableDtype::bfloat16}}, 40, at::kCPU, 300);
  ASSERT_EQ(table.cos.scalar_type(), at::kBFloat16);
  const auto q = random_tensor({1, 40, 4, 64}, 1), k = random_tensor({1, 40, 2, 64}, 2), gain = random_tensor({4}, 3);
  const auto fast = qk_norm_rope_gain(q, k, gain, &table, OpsPath::fast);
  const auto expected = qk_norm_rope_gain(q, k, gain, &table, OpsPath::reference);
  EXPECT_LE(distance(fast.first, expected.first), 1e-5);
  EXPECT_LE(distance(fast.second, expected.second), 1e-5);
}

TEST(FastCpu, SoftcapCrossEntropy) {
  for (const auto& [rows, vocab] : {std::pair<int64_t, int64_t>{1, 1000}, {5, 1024}, {99, 1000}, {130, 17}}) {
    const auto targets = at::randint(vocab, {rows}, at::make_generator<at::CPUGeneratorImpl>(7), at::kLong);
    for (const double cap : {30.0, 2.0, 500.0, 0.0}) {
      for (const double scale : {0.01, 1.0, 40.0}) {
        SCOPED_TRACE(c10::str(rows, " x ", vocab, ", cap ", cap, ", logits of size ", scale));
        const PathOp op = [&, cap = cap](OpsPath path) {
          return [&, cap, path](const Tensors& in) { return Tensors{softcap_cross_entropy(in[0], targets, cap, path)}; };
        };
        expect_fast_equals_reference(op, {random_tensor({rows, vocab}, 1) * scale});
      }
    }
  }
}

TEST(FastCpu, SoftcapCrossEntropyOfEqualLogitsIsLogOfTheVocabulary) {
  const auto loss = softcap_cross_entropy(at::full({3, 1024}, 7.0), at::arange(3), 30.0, OpsPath::fast);
  EXPECT_NEAR(loss.item<double>(), std::log(1024.0), 1e-6);
}

TEST(FastCpu, LossIsTheMeanOfTheTokenLosses) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const double cap : {30.0, 0.0}) {
      const auto logits = (random_tensor({130, 33}, 1) * 5).to(dtype);
      const auto targets = at::randint(33, {130}, at::make_generator<at::CPUGeneratorImpl>(7), at::kLong);
      const auto fast = softcap_token_losses(logits, targets, cap, OpsPath::fast);
      EXPECT_TRUE(fast.mean(at::kDouble).to(at::kFloat).equal(softcap_cross_entropy(logits, targets, cap, OpsPath::fast)));
      const auto exact = logits.to(at::kDouble), capped = cap > 0 ? cap * at::tanh(exact / cap) : exact;
      const auto expected = -at::log_softmax(capped, 1).gather(1, targets.unsqueeze(1)).squeeze(1);
      EXPECT_LE(distance(fast, expected), 2e-6 * expected.max().item<double>());
      // In bfloat16 the definition rounds the capped logits, to 2^-9 of up to 25 twice.
      EXPECT_LE(distance(softcap_token_losses(logits, targets, cap, OpsPath::reference), expected),
                dtype == at::kFloat || cap == 0 ? 1e-5 : 0.1);
    }
  }
  EXPECT_THROW(softcap_token_losses(at::zeros({2, 50}), at::tensor({int64_t{3}, int64_t{50}}), 30.0, OpsPath::fast),
               c10::IndexError);
}

TEST(FastCpu, SoftcapCrossEntropyScalesItsGradientAndGivesItAwayOnce) {
  const auto targets = at::arange(4);
  const auto gradient = [&](double factor) {
    const auto logits = random_tensor({4, 50}, 1).requires_grad_();
    (softcap_cross_entropy(logits, targets, 30.0, OpsPath::fast) * factor).backward();
    return logits.grad();
  };
  EXPECT_LE(distance(gradient(0.125), gradient(1.0) * 0.125), 1e-7);

  const auto logits = random_tensor({4, 50}, 1).requires_grad_();
  const auto loss = softcap_cross_entropy(logits, targets, 30.0, OpsPath::fast);
  loss.backward({}, /*keep_graph=*/true);
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST(FastCpu, SoftcapCrossEntropyRefusesTargetsOutsideOfTheVocabulary) {
  for (const int64_t bad : {-1, -100, 50}) {
    EXPECT_THROW(softcap_cross_entropy(at::zeros({2, 50}), at::tensor({int64_t{3}, bad}), 30.0, OpsPath::fast), c10::IndexError);
  }
}

TEST(FastCpu, NanPropagates) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto x = at::ones({2, 40}, dtype);
    x[1][33] = nan;
    EXPECT_TRUE(rms_norm(x, OpsPath::fast)[1].isnan().all().item<bool>());
    EXPECT_TRUE(leaky_squared(x, 0.5, OpsPath::fast)[1][33].isnan().item<bool>());
    EXPECT_TRUE(swiglu(x, at::ones_like(x), OpsPath::fast)[1][33].isnan().item<bool>());
    EXPECT_TRUE(scaled_add(x, at::ones({40}), x, OpsPath::fast)[1][33].isnan().item<bool>());
    EXPECT_TRUE(softcap_cross_entropy(x, at::arange(2), 30.0, OpsPath::fast).isnan().item<bool>());
    EXPECT_FALSE(rms_norm(x, OpsPath::fast)[0].isnan().any().item<bool>());
  }
}

TEST(FastCpu, ParameterGradientsDoNotDependOnTheNumberOfThreads) {
  const auto gradient = [](int threads) {
    at::set_num_threads(threads);
    const Op op = [](const Tensors& in) { return Tensors{residual_mix(in[0], in[1], in[2], OpsPath::fast)}; };
    return differentiate(op, {random_tensor({4, 500, 96}, 1), random_tensor({4, 500, 96}, 2), random_tensor({2, 96}, 3)})
        .gradients[2];
  };
  const int before = at::get_num_threads();
  const auto one = gradient(1), three = gradient(3);
  at::set_num_threads(before);
  EXPECT_TRUE(one.equal(three));
}

TEST(FastCpu, SecondDerivativesAreRefused) {
  const auto x = random_tensor({2, 8}, 1).requires_grad_();
  const auto y = rms_norm(x, OpsPath::fast).sum();
  EXPECT_THROW(torch::autograd::grad({y}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true), c10::Error);
}

TEST(FastCpu, OtherTypesAndShapesTakeTheReferencePath) {
  const auto x = random_tensor({2, 3, 8}, 1).to(at::kDouble);
  EXPECT_TRUE(rms_norm(x, OpsPath::fast).equal(rms_norm(x, OpsPath::reference)));
  EXPECT_TRUE(leaky_squared(x, 0.5, OpsPath::fast).equal(leaky_squared(x, 0.5, OpsPath::reference)));
  const auto a = random_tensor({2, 3, 8}, 1), row = random_tensor({8}, 2);
  EXPECT_TRUE(scaled_add(a, row, row, OpsPath::fast).equal(scaled_add(a, row, row, OpsPath::reference)));
  // head_dim beyond the fused kernel's limit: only rms_norm is the fast one, with sums in another order.
  const auto wide = random_tensor({1, 2, 1, 600}, 3);
  const auto fast = qk_norm_rope_gain(wide, wide, at::ones({1}), nullptr, OpsPath::fast);
  EXPECT_LE(distance(fast.first, qk_norm_rope_gain(wide, wide, at::ones({1}), nullptr, OpsPath::reference).first), 1e-6);
}

}  // namespace
}  // namespace pgolf::ops::testing
