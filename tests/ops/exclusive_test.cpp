#include "pgolf/ops/exclusive.h"

#include <limits>

#include "ops/ops_testing.h"
#include "support/device.h"

namespace pgolf::ops::testing {
namespace {

at::Tensor defined(const at::Tensor& y, const at::Tensor& v) {
  return exclude_value(y, v, OpsPath::reference);
}

TEST(ExcludeValue, NothingIsLeftAlongTheValueOfTheGroup) {
  for (const int64_t kv_heads : {1, 2, 6}) {
    const auto y = random_tensor({2, 5, 6, 16}, 1), v = random_tensor({2, 5, kv_heads, 16}, 2);
    const auto rest = defined(y, v);
    ASSERT_EQ(rest.sizes(), y.sizes());
    const auto values = v.repeat_interleave(6 / kv_heads, 2);
    EXPECT_LT((rest * values).sum(-1).abs().max().item<double>(), 1e-5) << kv_heads << " value heads";
    // What was taken away is along the value.
    const auto length = ((y - rest) * values).sum(-1, true) / values.square().sum(-1, true);
    EXPECT_LT((y - rest - length * values).abs().max().item<double>(), 1e-5) << kv_heads << " value heads";
  }
}

TEST(ExcludeValue, NumericGradients) {
  const Op op = [](const Tensors& in) { return Tensors{defined(in[0], in[1])}; };
  const Tensors inputs{random_tensor({2, 3, 4, 8}, 1), random_tensor({2, 3, 2, 8}, 2)};
  EXPECT_LE(numeric_gradient_distance(op, cast(inputs, at::kDouble), 1e-5), 1e-6);
}

TEST(ExcludeValue, WhatTheFastFormDoesNotCoverIsAsDefined) {
  const auto expect_defined = [](const at::Tensor& y, const at::Tensor& v) {
    EXPECT_TRUE(exclude_value(y, v, OpsPath::fast).equal(defined(y, v)));
  };
  const auto y = random_tensor({2, 5, 4, 16}, 1), v = random_tensor({2, 5, 2, 16}, 2);
  expect_defined(y.to(at::kDouble), v.to(at::kDouble));
  expect_defined(y, v.to(at::kDouble));
  expect_defined(y.to(at::kBFloat16), v);
  expect_defined(random_tensor({1, 2, 2, 513}, 1), random_tensor({1, 2, 1, 513}, 2));
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    EXPECT_THROW(exclude_value(y, random_tensor({2, 5, 3, 16}, 2), path), c10::Error) << "4 heads, 3 value heads";
    EXPECT_THROW(exclude_value(y, random_tensor({2, 5, 2, 8}, 2), path), c10::Error) << "another head_dim";
    EXPECT_EQ(exclude_value(y.narrow(1, 0, 0), v.narrow(1, 0, 0), path).sizes(), (std::vector<int64_t>{2, 0, 4, 16}));
  }
}

TEST(ExcludeValue, HasNoSecondDerivativeOnTheFastPath) {
  const auto y = random_tensor({1, 2, 2, 8}, 1).requires_grad_(), v = random_tensor({1, 2, 1, 8}, 2).requires_grad_();
  const auto sum = exclude_value(y, v, OpsPath::fast).square().sum();
  EXPECT_THROW(torch::autograd::grad({sum}, {y}, {}, /*retain_graph=*/true, /*create_graph=*/true), c10::Error);
}

// The fast form on every device against the definition there.

struct GroupCase {
  int64_t batch, time, heads, kv_heads, dim;

  Tensors inputs() const { return {random_tensor({batch, time, heads, dim}, 1), random_tensor({batch, time, kv_heads, dim}, 2)}; }
  std::string text() const { return c10::str("B=", batch, " T=", time, " H=", heads, "/", kv_heads, " D=", dim); }
};

const PathOp kExclude = [](OpsPath path) {
  return [path](const Tensors& in) { return Tensors{exclude_value(in[0], in[1], path)}; };
};

class DeviceExcludeValue : public pgolf::testing::DeviceTest {
 protected:
  Tensors here(Tensors inputs) {
    for (auto& input : inputs) input = input.to(device());
    return inputs;
  }
};

TEST_P(DeviceExcludeValue, FastEqualsReference) {
  for (const GroupCase& c :
       {GroupCase{2, 5, 4, 4, 16}, GroupCase{2, 33, 4, 2, 64}, GroupCase{2, 37, 8, 2, 32}, GroupCase{1, 300, 8, 4, 64},
        GroupCase{3, 70, 4, 1, 128}, GroupCase{1, 1, 4, 2, 64}, GroupCase{4, 1, 1, 1, 100}, GroupCase{2, 7, 6, 2, 7},
        GroupCase{1, 70, 4, 2, 65}, GroupCase{2, 9, 12, 3, 96}, GroupCase{2, 9, 4, 2, 2}}) {
    SCOPED_TRACE(c.text());
    expect_fast_equals_reference(kExclude, here(c.inputs()));
  }
}

TEST_P(DeviceExcludeValue, OfOneDimensionNothingIsLeft) {
  const GroupCase c{2, 7, 4, 2, 1};
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto got = differentiate(kExclude(OpsPath::fast), cast(here(c.inputs()), dtype));
    for (const auto& tensors : {got.values, got.gradients}) {
      for (const auto& x : tensors) EXPECT_LE(x.abs().max().item<double>(), 3e-6) << dtype;
    }
  }
}

TEST_P(DeviceExcludeValue, InputsOfAnyStrides) {
  const auto expect_equal_for = [&](const Tensors& inputs, const auto& views) {
    const PathOp op = [&](OpsPath path) {
      return [&, path](const Tensors& in) {
        const auto [y, v] = views(in);
        return Tensors{exclude_value(y, v, path)};
      };
    };
    expect_fast_equals_reference(op, here(inputs));
  };
  using Pair = std::pair<at::Tensor, at::Tensor>;
  {
    SCOPED_TRACE("heads first");
    expect_equal_for({random_tensor({2, 4, 9, 64}, 1), random_tensor({2, 2, 9, 64}, 2)}, [](const Tensors& in) {
      return Pair{in[0].transpose(1, 2), in[1].transpose(1, 2)};
    });
  }
  for (const int64_t dim : {64, 10}) {
    SCOPED_TRACE(c10::str("parts of one projection, ", dim, " dims"));
    expect_equal_for({random_tensor({2, 9, (4 + 2) * dim}, 1)}, [dim](const Tensors& in) {
      const auto heads = in[0].unflatten(-1, {6, dim});
      return Pair{heads.narrow(2, 0, 4), heads.narrow(2, 4, 2)};
    });
  }
  {
    SCOPED_TRACE("transposed heads");
    expect_equal_for({random_tensor({2, 9, 64, 4}, 1), random_tensor({2, 9, 64, 2}, 2)}, [](const Tensors& in) {
      return Pair{in[0].transpose(2, 3), in[1].transpose(2, 3)};
    });
  }
  {
    SCOPED_TRACE("one value for all times");
    expect_equal_for({random_tensor({2, 9, 4, 64}, 1), random_tensor({2, 1, 2, 64}, 2)}, [](const Tensors& in) {
      return Pair{in[0], in[1].expand({2, 9, 2, 64})};
    });
  }
  {
    SCOPED_TRACE("not on a 16-byte boundary");
    expect_equal_for({random_tensor({1 + 2 * 9 * 6 * 64}, 1)}, [](const Tensors& in) {
      const auto heads = in[0].narrow(0, 1, 2 * 9 * 6 * 64).view({2, 9, 6, 64});
      return Pair{heads.narrow(2, 0, 4), heads.narrow(2, 4, 2)};
    });
  }
}

TEST_P(DeviceExcludeValue, AValueOfZeroExcludesNothing) {
  const auto y = random_tensor({2, 5, 4, 16}, 1).to(device()), zeros = at::zeros({2, 5, 2, 16}, device());
  for (const auto path : {OpsPath::reference, OpsPath::fast}) EXPECT_TRUE(exclude_value(y, zeros, path).equal(y));
  auto inputs = GroupCase{2, 70, 4, 2, 64}.inputs();
  inputs[1].slice(1, 0, 70, 3).zero_();
  expect_fast_equals_reference(kExclude, here(inputs));
  const auto got = differentiate(kExclude(OpsPath::fast), here(inputs));
  EXPECT_EQ(got.gradients[1].slice(1, 0, 70, 3).abs().max().item<double>(), 0);
}

TEST_P(DeviceExcludeValue, ShorterThanTheBoundAValueIsNoDirection) {
  // The length counts as a constant then, so the gradient has a part along the value.
  auto inputs = GroupCase{2, 5, 4, 2, 64}.inputs();
  inputs[1] = inputs[1] * 1e-14;
  expect_fast_equals_reference(kExclude, here(inputs));
}

TEST_P(DeviceExcludeValue, NanPropagates) {
  auto inputs = GroupCase{1, 3, 2, 1, 64}.inputs();
  inputs[1].index_put_({0, 1, 0, 5}, std::numeric_limits<double>::quiet_NaN());
  const auto rest = exclude_value(inputs[0].to(device()), inputs[1].to(device()), OpsPath::fast);
  EXPECT_TRUE(rest.select(1, 1).isnan().all().item<bool>());
  EXPECT_FALSE(rest.select(1, 0).isnan().any().item<bool>() || rest.select(1, 2).isnan().any().item<bool>());
}

TEST_P(DeviceExcludeValue, AGradientThatNobodyNeedsChangesNothing) {
  const auto inputs = here(GroupCase{2, 33, 4, 2, 64}.inputs());
  const auto both = differentiate(kExclude(OpsPath::fast), inputs).gradients;
  for (const size_t needed : {0, 1}) {
    const Op one = [&](const Tensors& in) {
      return kExclude(OpsPath::fast)(needed == 0 ? Tensors{in[0], inputs[1]} : Tensors{inputs[0], in[0]});
    };
    EXPECT_TRUE(differentiate(one, {inputs[needed]}).gradients[0].equal(both[needed])) << needed;
  }
}

PGOLF_ON_EVERY_DEVICE(DeviceExcludeValue);

}  // namespace
}  // namespace pgolf::ops::testing
