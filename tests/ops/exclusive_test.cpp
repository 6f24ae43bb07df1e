#include "pgolf/ops/exclusive.h"

#include "ops/ops_testing.h"

namespace pgolf::ops::testing {
namespace {

TEST(ExcludeValue, NothingIsLeftAlongTheValueOfTheGroup) {
  for (const int64_t kv_heads : {1, 2, 6}) {
    const auto y = random_tensor({2, 5, 6, 16}, 1), v = random_tensor({2, 5, kv_heads, 16}, 2);
    const auto rest = exclude_value(y, v);
    ASSERT_EQ(rest.sizes(), y.sizes());
    const auto values = v.repeat_interleave(6 / kv_heads, 2);
    EXPECT_LT((rest * values).sum(-1).abs().max().item<double>(), 1e-5) << kv_heads << " value heads";
    // What was taken away is along the value.
    const auto length = ((y - rest) * values).sum(-1, true) / values.square().sum(-1, true);
    EXPECT_LT((y - rest - length * values).abs().max().item<double>(), 1e-5) << kv_heads << " value heads";
  }
}

TEST(ExcludeValue, AValueOfZeroExcludesNothing) {
  const auto y = random_tensor({2, 5, 4, 16}, 1);
  EXPECT_TRUE(at::equal(exclude_value(y, at::zeros({2, 5, 2, 16})), y));
}

TEST(ExcludeValue, NumericGradients) {
  const Op op = [](const Tensors& in) { return Tensors{exclude_value(in[0], in[1])}; };
  const Tensors inputs{random_tensor({2, 3, 4, 8}, 1), random_tensor({2, 3, 2, 8}, 2)};
  EXPECT_LE(numeric_gradient_distance(op, cast(inputs, at::kDouble), 1e-5), 1e-6);
}

}  // namespace
}  // namespace pgolf::ops::testing
