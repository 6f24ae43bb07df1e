// qkv_heads: the fused operation for all devices against the definition.
#include "pgolf/ops/heads.h"

#include "../../src/ops/fast.h"
#include "ops/ops_testing.h"

namespace pgolf::ops::testing {
namespace {

struct Case {
  int64_t batch, time, width, heads, kv_heads, dim;
  int rope_dims;
  RopeStyle style = RopeStyle::half;
  bool qk_norm = true;
};

/// Fast is the fused operation for devices, which the CPU has too: not what the public function uses there.
PathOp heads_op(const Case& c) {
  RopeSpec spec{static_cast<int>(c.dim), c.rope_dims};
  spec.style = c.style;
  const auto table = std::make_shared<RopeTable>();
  if (c.rope_dims > 0) *table = make_rope_table(spec, c.time, at::kCPU);
  return [=](OpsPath path) {
    return [=](const Tensors& in) {
      const LinearWeight q(in[1]), k(in[2]), v(in[3]);
      const RopeTable* const rotation = c.rope_dims > 0 ? table.get() : nullptr;
      const auto heads = path == OpsPath::fast ? fast::qkv_heads(in[0], q, k, v, in[4], rotation, c.qk_norm)
                                               : qkv_heads(in[0], q, k, v, in[4], rotation, path, c.qk_norm);
      return Tensors(heads.begin(), heads.end());
    };
  };
}

Tensors inputs_of(const Case& c) {
  return {random_tensor({c.batch, c.time, c.width}, 1), random_weight(c.heads * c.dim, c.width, 2),
          random_weight(c.kv_heads * c.dim, c.width, 3), random_weight(c.kv_heads * c.dim, c.width, 4),
          random_tensor({c.heads}, 5).abs() + 1};
}

TEST(QkvHeads, FastEqualsReference) {
  for (const Case& c : {Case{2, 37, 48, 4, 2, 32, 16}, Case{1, 64, 64, 4, 4, 16, 16}, Case{2, 33, 40, 8, 1, 8, 2},
                        Case{1, 40, 64, 2, 1, 64, 16, RopeStyle::interleaved}, Case{1, 40, 64, 2, 1, 64, 0},
                        Case{1, 40, 64, 2, 2, 64, 64, RopeStyle::half, false}}) {
    SCOPED_TRACE(c10::str("heads ", c.heads, "/", c.kv_heads, ", head_dim ", c.dim, ", rope_dims ", c.rope_dims));
    expect_fast_equals_reference(heads_op(c), inputs_of(c), /*parameters=*/1);
  }
}

TEST(QkvHeads, GradientsOfSeveralMicroBatchesAddUpInOneBuffer) {
  const Case c{2, 16, 32, 4, 2, 8, 4};
  const auto once = differentiate(heads_op(c)(OpsPath::fast), inputs_of(c)).gradients;
  Tensors leaves;
  for (const auto& input : inputs_of(c)) leaves.push_back(input.clone().requires_grad_());
  const auto micro_batch = [&] {
    at::Tensor sum = at::zeros({});
    int64_t seed = 100;
    for (const auto& output : heads_op(c)(OpsPath::fast)(leaves)) {
      const auto transposed = output.transpose(1, 2);
      sum = sum + (transposed * weights_for(transposed, ++seed)).sum();
    }
    sum.backward();
  };
  for (int i = 0; i < 3; ++i) micro_batch();
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_LE(distance(leaves[i].grad(), 3 * once[i]), 1e-6) << i;
    EXPECT_TRUE(leaves[i].grad().is_alias_of(leaves[1].grad()));
  }
  // One of them in other memory: each then gets its own product.
  leaves[2].mutable_grad() = leaves[2].grad().clone();
  micro_batch();
  for (size_t i = 1; i < 4; ++i) EXPECT_LE(distance(leaves[i].grad(), 4 * once[i]), 1e-6) << i;
  // And one new among others.
  leaves[3].mutable_grad() = at::Tensor();
  micro_batch();
  EXPECT_LE(distance(leaves[1].grad(), 5 * once[1]), 1e-6);
  EXPECT_LE(distance(leaves[3].grad(), once[3]), 1e-6);
}

TEST(QkvHeads, ThePublicFormIsTheSameOnEveryPath) {
  const Case c{2, 37, 48, 4, 2, 32, 16};
  const auto public_op = [&](OpsPath path) {
    return [path](const Tensors& in) {
      const auto heads = qkv_heads(in[0], LinearWeight(in[1]), LinearWeight(in[2]), LinearWeight(in[3]), in[4], nullptr, path);
      return Tensors(heads.begin(), heads.end());
    };
  };
  expect_fast_equals_reference(public_op, inputs_of(c), 1);
}

TEST(QkvHeads, WhatItDoesNotCoverIsDeclined) {
  const Case c{1, 4, 16, 2, 1, 8, 4};
  const auto declined = [](Tensors in) {
    return !fast::qkv_heads(in[0], LinearWeight(in[1]), LinearWeight(in[2]), LinearWeight(in[3]), in[4], nullptr, true)[0]
                .defined();
  };
  EXPECT_FALSE(declined(inputs_of(c)));
  for (size_t i = 0; i < 5; ++i) {
    auto in = inputs_of(c);
    in[i] = in[i].to(at::kDouble);
    EXPECT_TRUE(declined(in)) << "float64 " << i;
  }
  auto in = inputs_of(c);
  in[2] = random_weight(12, 16, 3);
  EXPECT_TRUE(declined(in)) << "not a whole number of heads";
  in = inputs_of({1, 4, 16, 1, 1, 520, 0});
  EXPECT_TRUE(declined(in)) << "head_dim above the limit";
}

}  // namespace
}  // namespace pgolf::ops::testing
