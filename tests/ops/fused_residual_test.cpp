// residual_mix_norm and scaled_add_norm: the reference form against its parts, the fast form against the reference.
#include "ops/ops_testing.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"

namespace pgolf::ops::testing {
namespace {

/// f(x, x0, parameter) for inputs in that order; the outputs used determine the incoming gradients.
enum class Used { both, first, second };

Tensors chosen(const Normed& outputs, Used used) {
  if (used == Used::first) return {outputs.x};
  if (used == Used::second) return {outputs.normed};
  return {outputs.x, outputs.normed};
}

PathOp mix_op(Used used, double factor = 1) {
  return [used, factor](OpsPath path) {
    return [used, factor, path](const Tensors& in) { return chosen(residual_mix_norm(in[0], in[1], in[2], path, factor), used); };
  };
}

PathOp add_op(Used used, double factor = 1) {
  return [used, factor](OpsPath path) {
    return [used, factor, path](const Tensors& in) { return chosen(scaled_add_norm(in[0], in[2], in[1], path, factor), used); };
  };
}

void check_fused(int64_t batch, int64_t time, int64_t width) {
  SCOPED_TRACE(c10::str("B=", batch, " T=", time, " C=", width));
  const auto x = random_tensor({batch, time, width}, 1), other = random_tensor({batch, time, width}, 2);
  for (const auto used : {Used::both, Used::first, Used::second}) {
    SCOPED_TRACE(c10::str("outputs used: ", static_cast<int>(used)));
    for (const double factor : {1.0, 0.3}) {
      expect_fast_equals_reference(mix_op(used, factor), {x, other, random_tensor({2, width}, 3)}, 2);
      expect_fast_equals_reference(add_op(used, factor), {x, other, random_tensor({width}, 4)}, 2);
    }
  }
}

TEST(FusedResidual, EqualsReference) {
  check_fused(1, 1, 1000);
  check_fused(3, 33, 5);
  check_fused(3, 65, 100);
  check_fused(1, 200, 64);
  check_fused(2, 65, 512);
}

TEST(FusedResidual, TheFactorIsTheNormsOnly) {
  const auto x = random_tensor({3, 7, 20}, 1), other = random_tensor({3, 7, 20}, 2), mix = random_tensor({2, 20}, 3);
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    const auto plain_mix = residual_mix_norm(x, other, mix, path), mixed = residual_mix_norm(x, other, mix, path, 0.25);
    const auto plain_add = scaled_add_norm(x, mix[0], other, path), added = scaled_add_norm(x, mix[0], other, path, 0.25);
    EXPECT_TRUE(at::equal(mixed.x, plain_mix.x));
    EXPECT_TRUE(at::equal(mixed.normed, plain_mix.normed * 0.25));
    EXPECT_TRUE(at::equal(added.x, plain_add.x));
    EXPECT_TRUE(at::equal(added.normed, plain_add.normed * 0.25));
    EXPECT_TRUE(at::equal(rms_norm(x, path, 0.25), rms_norm(x, path) * 0.25));
  }
}

TEST(GatedSkip, IsBetweenTheSkipAndTheStream) {
  const auto x = random_tensor({2, 3, 5}, 1), skip = random_tensor({2, 3, 5}, 2), weight = random_tensor({5}, 3);
  const auto infinity = at::full({5}, std::numeric_limits<float>::infinity());
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    const auto gated = [&](const at::Tensor& gate) { return gated_skip(x, skip, weight, gate, path); };
    EXPECT_TRUE(at::equal(gated(infinity), x));
    EXPECT_TRUE(at::equal(gated(-infinity), weight * skip));
    EXPECT_LE(distance(gated(at::zeros({5})), (x + weight * skip) / 2), 1e-6);
  }
  const PathOp op = [](OpsPath path) {
    return [path](const Tensors& in) { return Tensors{gated_skip(in[0], in[1], in[2], in[3], path)}; };
  };
  expect_fast_equals_reference(
      op, {random_tensor({3, 65, 100}, 1), random_tensor({3, 65, 100}, 2), random_tensor({100}, 3), random_tensor({100}, 4)}, 2);
}

TEST(FusedResidual, ReferenceIsItsPartsOneAfterTheOther) {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const auto x = random_tensor({3, 7, 20}, 1).to(dtype), other = random_tensor({3, 7, 20}, 2).to(dtype);
    const auto mix = random_tensor({2, 20}, 3), scale = random_tensor({20}, 4);
    const Op mix_parts = [](const Tensors& in) {
      const auto y = residual_mix(in[0], in[1], in[2], OpsPath::reference);
      return Tensors{y, rms_norm(y, OpsPath::reference)};
    };
    const Op add_parts = [](const Tensors& in) {
      const auto y = scaled_add(in[0], in[2], in[1], OpsPath::reference);
      return Tensors{y, rms_norm(y, OpsPath::reference)};
    };
    const auto expect_equal = [](const Results& got, const Results& expected) {
      for (size_t i = 0; i < expected.values.size(); ++i) EXPECT_TRUE(got.values[i].equal(expected.values[i]));
      for (size_t i = 0; i < expected.gradients.size(); ++i) EXPECT_TRUE(got.gradients[i].equal(expected.gradients[i]));
    };
    expect_equal(differentiate(mix_op(Used::both)(OpsPath::reference), {x, other, mix}),
                 differentiate(mix_parts, {x, other, mix}));
    expect_equal(differentiate(add_op(Used::both)(OpsPath::reference), {x, other, scale}),
                 differentiate(add_parts, {x, other, scale}));
  }
}

TEST(FusedResidual, NormalizesTheRoundedStream) {
  const auto x = random_tensor({2, 3, 48}, 1).to(at::kBFloat16), other = random_tensor({2, 3, 48}, 2).to(at::kBFloat16);
  const auto outputs = scaled_add_norm(x, random_tensor({48}, 3), other, OpsPath::fast);
  EXPECT_TRUE(outputs.normed.equal(rms_norm(outputs.x, OpsPath::fast)));
}

TEST(FusedResidual, GradientsDoNotDependOnTheNumberOfThreads) {
  const auto gradients = [](int threads) {
    at::set_num_threads(threads);
    return differentiate(mix_op(Used::both)(OpsPath::fast),
                         {random_tensor({4, 500, 96}, 1), random_tensor({4, 500, 96}, 2), random_tensor({2, 96}, 3)})
        .gradients;
  };
  const int before = at::get_num_threads();
  const auto one = gradients(1), three = gradients(3);
  at::set_num_threads(before);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(one[i].equal(three[i])) << i;
}

TEST(FusedResidual, OtherTypesAndShapesTakeTheReferencePath) {
  const auto x = random_tensor({2, 3, 8}, 1).to(at::kDouble), mix = random_tensor({2, 8}, 2);
  EXPECT_TRUE(residual_mix_norm(x, x, mix, OpsPath::fast).normed.equal(residual_mix_norm(x, x, mix, OpsPath::reference).normed));
  const auto a = random_tensor({2, 3, 8}, 1), row = random_tensor({8}, 2);
  const auto fast = scaled_add_norm(a, row, row, OpsPath::fast), expected = scaled_add_norm(a, row, row, OpsPath::reference);
  EXPECT_TRUE(fast.x.equal(expected.x));
  EXPECT_LE(distance(fast.normed, expected.normed), 1e-6);
}

}  // namespace
}  // namespace pgolf::ops::testing
