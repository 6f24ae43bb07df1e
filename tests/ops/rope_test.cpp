// Tables and rotation: golden values and the properties that make it a rotation by relative position.
#include "pgolf/ops/rope.h"

#include <cmath>

#include "ops/ops_testing.h"
#include "pgolf/ops/rms_norm.h"

namespace pgolf::ops::testing {
namespace {

/// Rows of norm sqrt(dim), which rms_norm leaves unchanged up to eps.
at::Tensor normalized(at::IntArrayRef shape, int64_t seed) {
  return rms_norm(random_tensor(shape, seed), OpsPath::reference);
}

/// The op's result for k, [B, T, H, D] -> [B, H, T, D]: norm and rotation, no gain.
at::Tensor rotated(const at::Tensor& x, const RopeTable* table, OpsPath path) {
  return qk_norm_rope_gain(x, x, at::ones({x.size(2)}), table, path).second;
}

TEST(RopeTable, HasTheFrequenciesOfRopeDims) {
  // The angle at position 1 is inv_freq itself.
  const auto partial = make_rope_table({8, 4}, 2, at::kCPU), full = make_rope_table({8, 8}, 2, at::kCPU);
  ASSERT_EQ(partial.cos.sizes(), (std::vector<int64_t>{2, 2}));
  ASSERT_EQ(full.sin.sizes(), (std::vector<int64_t>{2, 4}));
  const double partial_frequencies[] = {1.0, 0.01}, full_frequencies[] = {1.0, 0.1, 0.01, 0.001};
  for (int i = 0; i < 2; ++i) {
    EXPECT_NEAR(partial.cos[1][i].item<double>(), std::cos(partial_frequencies[i]), 1e-7);
    EXPECT_NEAR(partial.sin[1][i].item<double>(), std::sin(partial_frequencies[i]), 1e-7);
  }
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(full.sin[1][i].item<double>(), std::sin(full_frequencies[i]), 1e-7);
  EXPECT_TRUE(full.cos[0].equal(at::ones({4})));
  EXPECT_TRUE(full.sin[0].equal(at::zeros({4})));
}

TEST(RopeTable, StaysExactAtLatePositions) {
  const auto table = make_rope_table({64, 16}, 1, at::kCPU, 4001);
  for (int i = 0; i < 8; ++i) {
    const double angle = 4001 * std::pow(10000.0, -2.0 * i / 16);
    EXPECT_NEAR(table.cos[0][i].item<double>(), std::cos(angle), 4001 * 1e-7) << i;
  }
}

// The numbers of docs/equality.md about the rounding of tables.
TEST(RopeTable, Bfloat16MakesLatePositionsIndistinct) {
  const RopeSpec spec{64, 64};
  RopeSpec rounded_spec = spec;
  rounded_spec.table_dtype = RopeTableDtype::bfloat16;
  const auto exact = make_rope_table(spec, 1032, at::kCPU), rounded = make_rope_table(rounded_spec, 1032, at::kCPU);
  const auto error = (rounded.cos.to(at::kFloat) - exact.cos).abs();
  EXPECT_NEAR(error.narrow(0, 0, 8).max().item<double>(), 0.0060, 5e-5);
  EXPECT_NEAR(error.max().item<double>(), 1.97, 5e-3);
  EXPECT_TRUE(rounded.cos[256].equal(rounded.cos[257]));
  EXPECT_FALSE(exact.cos[256].equal(exact.cos[257]));
}

TEST(RopeTable, FirstPositionIsASlice) {
  const auto all = make_rope_table({64, 16}, 1100, at::kCPU), tail = make_rope_table({64, 16}, 100, at::kCPU, 1000);
  EXPECT_TRUE(tail.cos.equal(all.cos.narrow(0, 1000, 100)));
  EXPECT_TRUE(tail.sin.equal(all.sin.narrow(0, 1000, 100)));
}

TEST(RopeTable, CacheGivesOneTableToEqualSpecs) {
  RopeTableCache cache;
  const auto first = cache.get({64, 16}, 32, at::kCPU);
  EXPECT_EQ(first, cache.get({64, 16}, 32, at::kCPU));
  EXPECT_NE(first, cache.get({64, 32}, 32, at::kCPU));
  EXPECT_NE(first, cache.get({64, 16}, 33, at::kCPU));
  EXPECT_EQ(cache.bytes(), int64_t{2 * 4} * (32 * 8 + 32 * 16 + 33 * 8));
}

TEST(RopeTable, OutlivesItsPlaceInTheCache) {
  RopeTableCache cache;
  const auto first = cache.get({64, 16}, 32, at::kCPU);
  for (int64_t length = 100; length < 300; ++length) cache.get({64, 16}, length, at::kCPU);
  EXPECT_NE(first, cache.get({64, 16}, 32, at::kCPU)) << "the cache grows forever";
  EXPECT_TRUE(first->cos.equal(make_rope_table({64, 16}, 32, at::kCPU).cos));
}

class Rotation : public ::testing::TestWithParam<OpsPath> {};
INSTANTIATE_TEST_SUITE_P(Paths, Rotation, ::testing::Values(OpsPath::reference, OpsPath::fast),
                         [](const auto& info) { return info.param == OpsPath::fast ? "fast" : "reference"; });

TEST_P(Rotation, RotatesByMinusTheAngle) {
  const auto table = make_rope_table({4, 2}, 2, at::kCPU);  // one pair, angle = position
  auto x = at::zeros({1, 2, 1, 4});
  x.select(-1, 0).fill_(2.0);  // rms 1
  const auto y = rotated(x, &table, GetParam())[0][0][1];
  EXPECT_NEAR(y[0].item<double>(), 2 * std::cos(1.0), 1e-5);
  EXPECT_NEAR(y[1].item<double>(), -2 * std::sin(1.0), 1e-5);
}

TEST_P(Rotation, KeepsThePairsNorms) {
  for (const int rope_dims : {2, 6, 16, 48, 64}) {
    const int64_t half = rope_dims / 2;
    const auto table = make_rope_table({64, rope_dims}, 20, at::kCPU, 1000);
    const auto x = normalized({2, 20, 3, 64}, 1);
    const auto y = rotated(x, &table, GetParam()).transpose(1, 2);
    const auto norms = [half](const at::Tensor& t) { return t.narrow(-1, 0, half).square() + t.narrow(-1, half, half).square(); };
    EXPECT_LE(distance(norms(y), norms(x)), 2e-6) << rope_dims;
  }
}

TEST_P(Rotation, LeavesPositionZeroAndTheUpperDimsAlone) {
  for (const int rope_dims : {2, 6, 16, 48, 64}) {
    const auto table = make_rope_table({64, rope_dims}, 20, at::kCPU);
    const auto x = random_tensor({2, 20, 3, 64}, 1);
    const auto y = rotated(x, &table, GetParam()), unrotated = rotated(x, nullptr, GetParam());
    EXPECT_TRUE(y.select(2, 0).equal(unrotated.select(2, 0))) << rope_dims;
    EXPECT_TRUE(y.narrow(-1, rope_dims, 64 - rope_dims).equal(unrotated.narrow(-1, rope_dims, 64 - rope_dims))) << rope_dims;
    EXPECT_FALSE(y.narrow(-1, 0, rope_dims).equal(unrotated.narrow(-1, 0, rope_dims))) << rope_dims;
  }
}

TEST_P(Rotation, FullIsRopeDimsOfHeadDim) {
  std::string warning;
  const int rope_dims = parse_rope_dims("full", 32, &warning);
  const auto full = make_rope_table({32, rope_dims}, 9, at::kCPU, 50), number = make_rope_table({32, 32}, 9, at::kCPU, 50);
  const auto x = random_tensor({1, 9, 2, 32}, 1);
  EXPECT_TRUE(rotated(x, &full, GetParam()).equal(rotated(x, &number, GetParam())));
}

TEST_P(Rotation, DotProductsDependOnTheDistanceOnly) {
  const auto table = make_rope_table({32, 16}, 64, at::kCPU);
  const auto x = random_tensor({1, 1, 1, 32}, 1).expand({1, 64, 1, 32});
  const auto z = random_tensor({1, 1, 1, 32}, 2).expand({1, 64, 1, 32});
  const auto scores = at::mm(rotated(x, &table, GetParam())[0][0], rotated(z, &table, GetParam())[0][0].t());
  for (const int64_t gap : {0, 1, 7, 40}) {
    const auto diagonal = scores.diagonal(gap);
    EXPECT_LE((diagonal - diagonal[0]).abs().max().item<double>(), 1e-4) << gap;
  }
  EXPECT_GT((scores[0][0] - scores[0][7]).abs().item<double>(), 1e-2);
}

TEST_P(Rotation, GainMultipliesItsHeadOfTheQueriesOnly) {
  const auto table = make_rope_table({16, 6}, 5, at::kCPU);
  const auto x = random_tensor({1, 5, 2, 16}, 1);
  const auto [q, k] = qk_norm_rope_gain(x, x, at::tensor({1.0f, 3.0f}), &table, GetParam());
  EXPECT_LE(distance(q.select(1, 0), k.select(1, 0)), 1e-6);
  EXPECT_LE(distance(q.select(1, 1), k.select(1, 1) * 3), 1e-6);
}

TEST_P(Rotation, GradientsAgreeWithDifferences) {
  const auto table = make_rope_table({16, 6}, 5, at::kCPU, 2);
  const Op op = [&](const Tensors& in) {
    const auto [q, k] = qk_norm_rope_gain(in[0], in[1], in[2], &table, GetParam());
    return Tensors{q, k};
  };
  const Tensors inputs{random_tensor({2, 5, 4, 16}, 1), random_tensor({2, 5, 2, 16}, 2), random_tensor({4}, 3)};
  // The op is close to linear over a step of 1e-2 except for the norm's curvature, which the float64 form does without.
  EXPECT_LE(numeric_gradient_distance(op, inputs, 1e-2), 5e-3);
  if (GetParam() == OpsPath::reference) {
    EXPECT_LE(numeric_gradient_distance(op, cast(inputs, at::kDouble), 1e-5), 1e-7);
  }
}

}  // namespace
}  // namespace pgolf::ops::testing
