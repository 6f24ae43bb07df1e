// Styles, selections and scalings of rotary embedding: golden frequencies, what they have in common, and the fast path.
#include <cmath>

#include "ops/ops_testing.h"
#include "pgolf/base/error.h"
#include "pgolf/ops/rope.h"

namespace pgolf::ops::testing {
namespace {

RopeSpec spec_of(int head_dim, int rope_dims, RopeSelect select = RopeSelect::prefix, RopeStyle style = RopeStyle::half) {
  RopeSpec spec{head_dim, rope_dims};
  spec.select = select;
  spec.style = style;
  return spec;
}

void expect_frequencies(const RopeSpec& spec, const std::vector<double>& expected) {
  const auto got = rope_inv_freq(spec);
  ASSERT_EQ(got.numel(), static_cast<int64_t>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(got[static_cast<int64_t>(i)].item<double>(), expected[i], 1e-6 * expected[i]) << i;
  }
}

/// Dims of [..., D] as a list of indices.
at::Tensor dims(const std::vector<int64_t>& order) {
  return at::tensor(order);
}

/// The pairs' dims, so that interleaved(x[..., order]) = half(x)[..., order].
at::Tensor interleaving(int64_t span, int64_t head_dim) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < span / 2; ++i) {
    order.push_back(i);
    order.push_back(i + span / 2);
  }
  for (int64_t i = span; i < head_dim; ++i) order.push_back(i);
  return dims(order);
}

constexpr RopeSelect kSelects[] = {RopeSelect::prefix, RopeSelect::high, RopeSelect::low, RopeSelect::uniform};
constexpr RopeStyle kStyles[] = {RopeStyle::half, RopeStyle::interleaved};

TEST(RopeVariants, GoldenFrequencies) {
  expect_frequencies(spec_of(8, 4), {1, 0.01});
  expect_frequencies(spec_of(8, 4, RopeSelect::high), {1, 0.1, 0, 0});
  expect_frequencies(spec_of(8, 4, RopeSelect::low), {0, 0, 0.01, 0.001});
  expect_frequencies(spec_of(8, 4, RopeSelect::uniform), {1, 0, 0.01, 0});
  expect_frequencies(spec_of(8, 6, RopeSelect::uniform), {1, 0.1, 0.01, 0});  // pairs 0, 4/3 and 8/3, rounded down
  for (const auto select : kSelects) expect_frequencies(spec_of(8, 8, select), {1, 0.1, 0.01, 0.001});
}

TEST(RopeVariants, EverySelectionRotatesAsManyPairs) {
  for (const auto select : kSelects) {
    for (int rope_dims = 2; rope_dims <= 64; rope_dims += 2) {
      const auto moving = (rope_inv_freq(spec_of(64, rope_dims, select)) > 0).sum().item<int64_t>();
      EXPECT_EQ(moving, rope_dims / 2) << static_cast<int>(select);
    }
  }
}

TEST(RopeVariants, LinearDividesFrequencies) {
  for (const auto select : kSelects) {
    RopeSpec spec = spec_of(16, 8, select);
    const auto plain = rope_inv_freq(spec);
    spec.scaling = RopeScaling::linear;
    spec.scaling_factor = 4;
    EXPECT_LE(distance(rope_inv_freq(spec), plain / 4), 1e-6);
  }
}

TEST(RopeVariants, NtkRaisesTheBaseByThePowerOfTheSpan) {
  const std::pair<int, double> bases[] = {{4, 40000}, {6, 28284.27}, {16, 22081.79}, {64, 20452.3}};
  for (const auto& [rope_dims, base] : bases) {
    RopeSpec scaled = spec_of(64, rope_dims), same = scaled;
    scaled.scaling = RopeScaling::ntk;
    scaled.scaling_factor = 2;
    same.base = 10000 * std::pow(2.0, rope_dims / (rope_dims - 2.0));
    EXPECT_NEAR(same.base, base, 1e-5 * base);  // as given above
    EXPECT_LE(distance(rope_inv_freq(scaled), rope_inv_freq(same)), 1e-6);
  }
  RopeSpec two = spec_of(64, 2);
  two.scaling = RopeScaling::ntk;
  EXPECT_THROW(rope_inv_freq(two), Error);
}

TEST(RopeVariants, YarnLeavesFastPairsAloneAndScalesSlowOnesByTheFactor) {
  for (const int rope_dims : {64, 16}) {
    RopeSpec spec = spec_of(64, rope_dims);
    const auto plain = rope_inv_freq(spec);
    spec.scaling = RopeScaling::yarn;
    spec.scaling_factor = 4;
    spec.original_seq_len = 4096;
    // Pairs that make 32 full rotations and 1 in 4096 positions: 10.5 and 22.5 of 32, and 2.6 and 5.6 of 8.
    const int64_t low = rope_dims == 64 ? 10 : 2, high = rope_dims == 64 ? 23 : 6, pairs = rope_dims / 2;
    const auto ratio = plain / rope_inv_freq(spec);
    EXPECT_LE(distance(ratio.narrow(0, 0, low + 1), at::ones({low + 1})), 1e-6);
    EXPECT_LE(distance(ratio.narrow(0, high, pairs - high), at::full({pairs - high}, 4.0)), 1e-6);
    EXPECT_TRUE((ratio.narrow(0, 1, pairs - 1) >= ratio.narrow(0, 0, pairs - 1)).all().item<bool>());
  }
}

TEST(RopeVariants, YarnsFactorReachesTheRotatedDimsOnly) {
  const double factor = 0.1 * std::log(4.0) + 1;
  for (const auto select : kSelects) {
    RopeSpec spec = spec_of(16, 8, select);
    spec.scaling = RopeScaling::yarn;
    spec.scaling_factor = 4;
    spec.original_seq_len = 64;
    const auto table = make_rope_table(spec, 3, at::kCPU);
    const auto first = table.cos[0];  // angle 0
    for (int i = 0; i < first.numel(); ++i) EXPECT_NEAR(first[i].item<double>(), spec.rotates(i) ? factor : 1.0, 1e-6) << i;
  }
}

TEST(RopeVariants, InterleavedIsHalfSplitAfterAPermutation) {
  const auto x = random_tensor({2, 3, 20, 16}, 1);
  for (const auto select : kSelects) {
    for (const int rope_dims : {2, 6, 16}) {
      const auto half = spec_of(16, rope_dims, select), interleaved = spec_of(16, rope_dims, select, RopeStyle::interleaved);
      const auto order = interleaving(half.span(), 16);
      const auto expected = apply_rope(x, make_rope_table(half, 20, at::kCPU, 7)).index_select(-1, order);
      EXPECT_LE(distance(apply_rope(x.index_select(-1, order), make_rope_table(interleaved, 20, at::kCPU, 7)), expected), 1e-6);
    }
  }
}

TEST(RopeVariants, ProportionalIsPrefixWithAnotherBaseAfterAPermutation) {
  const int head_dim = 64;
  const auto x = random_tensor({1, 2, 50, head_dim}, 1);
  for (const int rope_dims : {2, 6, 16, 48}) {
    const auto high = spec_of(head_dim, rope_dims, RopeSelect::high);
    RopeSpec prefix = spec_of(head_dim, rope_dims);
    prefix.base = std::pow(high.base, static_cast<double>(rope_dims) / head_dim);
    // The prefix form's dims: first the rotating ones of the lower and of the upper half, then the others.
    std::vector<int64_t> order, rest;
    for (int64_t half = 0; half < 2; ++half) {
      for (int64_t i = 0; i < head_dim / 2; ++i) (i < rope_dims / 2 ? order : rest).push_back(half * head_dim / 2 + i);
    }
    order.insert(order.end(), rest.begin(), rest.end());
    const auto expected = apply_rope(x, make_rope_table(high, 50, at::kCPU, 900)).index_select(-1, dims(order));
    const auto got = apply_rope(x.index_select(-1, dims(order)), make_rope_table(prefix, 50, at::kCPU, 900));
    EXPECT_LE(distance(got, expected), 2e-4) << rope_dims;  // float32 frequencies of two formulas, times 950
  }
}

TEST(RopeVariants, DimsThatDoNotRotateKeepTheirBits) {
  const auto x = random_tensor({2, 3, 20, 64}, 1);
  for (const auto style : kStyles) {
    for (const auto select : kSelects) {
      for (const int rope_dims : {2, 6, 16, 48}) {
        const auto spec = spec_of(64, rope_dims, select, style);
        const auto y = apply_rope(x, make_rope_table(spec, 20, at::kCPU, 10'001));
        const int span = spec.span();
        for (int dim = 0; dim < 64; ++dim) {
          const int pair = style == RopeStyle::interleaved ? dim / 2 : dim % std::max(1, span / 2);
          const bool rotates = dim < span && spec.rotates(pair);
          EXPECT_EQ(y.select(-1, dim).equal(x.select(-1, dim)), !rotates) << dim;
        }
      }
    }
  }
}

TEST(RopeVariants, TheInverseIsTheOppositeAngle) {
  // The gradient of <w, rope(x)> is w rotated back; rotating that forward gives w again.
  for (const auto style : kStyles) {
    const auto table = make_rope_table(spec_of(32, 12, RopeSelect::prefix, style), 9, at::kCPU, 4000);
    const auto x = random_tensor({1, 2, 9, 32}, 1).requires_grad_(), w = random_tensor({1, 2, 9, 32}, 2);
    (apply_rope(x, table) * w).sum().backward();
    EXPECT_LE(distance(apply_rope(x.grad(), table), w), 1e-6);
  }
}

/// Values and gradients of the fused op against the reference; positions from `first` on.
void check_fused(const RopeSpec& spec, int64_t batch, int64_t time, int64_t first, bool qk_norm) {
  SCOPED_TRACE(c10::str("R=", spec.rope_dims, "/", spec.head_dim, " select ", static_cast<int>(spec.select), " style ",
                        static_cast<int>(spec.style), " B=", batch, " T=", time, " from ", first, " norm ", qk_norm));
  RopeTable table;
  if (!spec.none()) table = make_rope_table(spec, time, at::kCPU, first);
  const RopeTable* const used = spec.none() ? nullptr : &table;
  const PathOp op = [&](OpsPath path) {
    return [&, path](const Tensors& in) {
      const auto [q, k] = qk_norm_rope_gain(in[0], in[1], in[2], used, path, qk_norm);
      return Tensors{q, k};
    };
  };
  const auto q = random_tensor({batch, time, 4, spec.head_dim}, 1), k = random_tensor({batch, time, 2, spec.head_dim}, 2);
  expect_fast_equals_reference(op, {q, k, random_tensor({4}, 3) + 1.5}, 2);
}

TEST(RopeVariants, FusedOpIsTheReference) {
  for (const int head_dim : {32, 64}) {
    for (const auto style : kStyles) {
      for (const auto select : kSelects) {
        for (const int rope_dims : {0, 2, 6, 16, 48, head_dim}) {
          if (rope_dims > head_dim) continue;
          check_fused(spec_of(head_dim, rope_dims, select, style), 3, 7, 10'050, true);
        }
      }
      check_fused(spec_of(head_dim, 6, RopeSelect::prefix, style), 1, 131, 0, true);
      check_fused(spec_of(head_dim, 16, RopeSelect::prefix, style), 3, 33, 5, false);
      check_fused(spec_of(head_dim, 0, RopeSelect::prefix, style), 1, 3, 0, false);
      RopeSpec yarn = spec_of(head_dim, 16, RopeSelect::high, style);
      yarn.scaling = RopeScaling::yarn;
      yarn.scaling_factor = 2;
      yarn.original_seq_len = 64;
      check_fused(yarn, 2, 5, 100, true);
    }
  }
  check_fused(spec_of(22, 10, RopeSelect::prefix, RopeStyle::interleaved), 1, 9, 3, true);
  check_fused(spec_of(22, 10, RopeSelect::low, RopeStyle::interleaved), 1, 9, 3, false);
}

TEST(RopeVariants, TablesDoNotDependOnWhatWasAskedForBefore) {
  RopeSpec scaled = spec_of(16, 8);
  scaled.scaling = RopeScaling::ntk;
  scaled.scaling_factor = 4;
  RopeTableCache cache;
  const auto before = cache.get(spec_of(16, 8), 10, at::kCPU)->cos.clone();
  cache.get(scaled, 40, at::kCPU);
  cache.get(spec_of(16, 8), 40, at::kCPU);
  EXPECT_TRUE(cache.get(spec_of(16, 8), 10, at::kCPU)->cos.equal(before));
  EXPECT_FALSE(cache.get(scaled, 10, at::kCPU)->cos.equal(before));
}

TEST(KeyOffset, MovesWhatDoesNotRotate) {
  const auto k = random_tensor({2, 3, 5, 8}, 1);
  for (const auto select : {RopeSelect::prefix, RopeSelect::high, RopeSelect::low, RopeSelect::uniform}) {
    for (const auto style : {RopeStyle::half, RopeStyle::interleaved}) {
      for (const int dims : {0, 2, 6, 8}) {
        RopeSpec spec{8, dims};
        spec.select = select, spec.style = style;
        const auto got = offset_keys(k, spec);
        ASSERT_EQ(got.sizes(), k.sizes());
        for (int dim = 0; dim < 8; ++dim) {
          const auto own = k.select(3, dim), seen = got.select(3, dim);
          EXPECT_TRUE(seen.select(2, 0).equal(own.select(2, 0)));
          EXPECT_TRUE(seen.narrow(2, 1, 4).equal(own.narrow(2, spec.rotates_dim(dim) ? 1 : 0, 4))) << dims << " " << dim;
        }
      }
    }
  }
  EXPECT_TRUE(offset_keys(k.narrow(2, 0, 1), RopeSpec{8, 2}).equal(k.narrow(2, 0, 1)));
}

}  // namespace
}  // namespace pgolf::ops::testing
