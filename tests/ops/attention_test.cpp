// The fast path's own attention against LibTorch's: values and gradients over shapes, layouts, instruction sets and threads.
#include "pgolf/ops/attention.h"

#include <cstdlib>
#include <limits>
#include <memory>

#include "../../src/ops/cpu.h"
#include "ops/ops_testing.h"

namespace pgolf::ops::testing {
namespace {

struct AttentionShape {
  int64_t batch, heads, kv_heads, time, dim;
};

std::string describe(const AttentionShape& s) {
  return c10::str("B=", s.batch, " H=", s.heads, "/", s.kv_heads, " T=", s.time, " D=", s.dim);
}

/// q and k [B, H, T, D]; v [B, T, H, D], which attention_op() transposes as the model does.
Tensors attention_inputs(const AttentionShape& s) {
  return {random_tensor({s.batch, s.heads, s.time, s.dim}, 1), random_tensor({s.batch, s.kv_heads, s.time, s.dim}, 2),
          random_tensor({s.batch, s.time, s.kv_heads, s.dim}, 3)};
}

Op attention_op(OpsPath path) {
  return [path](const Tensors& in) { return Tensors{causal_attention(in[0], in[1], in[2].transpose(1, 2), path)}; };
}

/// bfloat16 computed in float32, as without AMX; float32 as always.
Op attention_without_tiles(OpsPath path) {
  if (path == OpsPath::reference) return attention_op(path);
  return [](const Tensors& in) {
    return Tensors{cpu::causal_attention(in[0], in[1], in[2].transpose(1, 2), /*window=*/0, /*tiles=*/false)};
  };
}

TEST(FastAttention, EqualsTheReferenceOverShapes) {
  for (const int64_t time : {2, 31, 64, 100, 129, 300}) {
    for (const int64_t dim : {16, 32, 48, 64, 96, 128}) {
      // One group size per pair, so that all meet all: 1, 2 and 4 query heads to a key/value head.
      const int64_t kv_heads = time % 2 == 0 ? 1 : 2, group = int64_t{1} << ((time + dim / 16) % 3);
      // The errors of bfloat16 are compared in the mean. A query of two keys has a single error in its gradient, that of the
      // stored output's product with the incoming gradient, so it takes many queries to have a mean.
      constexpr int64_t queries = 1000;
      const AttentionShape shape{std::max<int64_t>(1, queries / time), kv_heads * group, kv_heads, time, dim};
      SCOPED_TRACE(describe(shape));
      expect_fast_equals_reference(attention_op, attention_inputs(shape));
    }
  }
}

TEST(FastAttention, EqualsTheReferenceOverLongSequences) {
  for (const auto& shape : {AttentionShape{1, 2, 1, 1024, 64}, {2, 4, 2, 515, 32}, {1, 1, 1, 333, 256}}) {
    SCOPED_TRACE(describe(shape));
    expect_fast_equals_reference(attention_op, attention_inputs(shape));
  }
}

TEST(FastAttention, ComputesBfloat16InFloat32WithoutTiles) {
  for (const auto& shape : {AttentionShape{3, 4, 2, 31, 16}, {1, 4, 1, 129, 64}, {2, 2, 2, 300, 128}}) {
    SCOPED_TRACE(describe(shape));
    expect_fast_equals_reference(attention_without_tiles, attention_inputs(shape));
  }
}

/// The definition, key by key.
Op attention_within(int64_t window, OpsPath path) {
  return [=](const Tensors& in) { return Tensors{causal_attention(in[0], in[1], in[2].transpose(1, 2), path, window)}; };
}

TEST(SlidingWindow, HidesEarlierKeys) {
  const auto inputs = attention_inputs({2, 4, 2, 37, 16});
  const int64_t window = 5;
  const auto got = attention_within(window, OpsPath::reference)(inputs)[0];
  const auto v = inputs[2].transpose(1, 2);
  for (int64_t i = 0; i < 37; ++i) {
    const int64_t first = std::max<int64_t>(0, i - window + 1), count = i - first + 1;
    const auto q = inputs[0].narrow(2, i, 1), k = inputs[1].narrow(2, first, count).repeat_interleave(2, 1);
    const auto expected =
        at::matmul(at::softmax(at::matmul(q, k.transpose(2, 3)) / 4, -1), v.narrow(2, first, count).repeat_interleave(2, 1));
    EXPECT_LE(distance(got.narrow(2, i, 1), expected), 1e-5) << "query " << i;
  }
  EXPECT_TRUE(attention_within(1, OpsPath::fast)(inputs)[0].equal(v.repeat_interleave(2, 1)));
  for (const int64_t wide : {37, 38, 1000}) {
    EXPECT_TRUE(attention_within(wide, OpsPath::fast)(inputs)[0].equal(attention_op(OpsPath::fast)(inputs)[0]));
  }
}

TEST(SlidingWindow, FastEqualsTheReference) {
  for (const int64_t window : {2, 16, 31, 32, 33, 64, 100, 128, 200, 299}) {
    for (const auto& shape : {AttentionShape{4, 4, 2, 300, 32}, {8, 2, 2, 129, 64}, {16, 2, 1, 65, 16}}) {
      if (window >= shape.time) continue;
      SCOPED_TRACE(describe(shape) + " window " + std::to_string(window));
      expect_fast_equals_reference([&](OpsPath path) { return attention_within(window, path); }, attention_inputs(shape));
    }
  }
}

TEST(SlidingWindow, OfContinuedTextsIsThatOfTheWholeText) {
  const auto inputs = attention_inputs({2, 4, 2, 50, 32});
  const auto v = inputs[2].transpose(1, 2);
  const auto whole = causal_attention(inputs[0], inputs[1], v, OpsPath::reference, /*window=*/7);
  for (const int64_t count : {1, 2, 6, 7, 8, 20, 49}) {
    const auto last = inputs[0].narrow(2, 50 - count, count);
    for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
      EXPECT_LE(distance(causal_attention(last, inputs[1], v, path, 7), whole.narrow(2, 50 - count, count)), 1e-5) << count;
    }
  }
}

TEST(FastAttention, OfOneKeyIsItsValue) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Tensors inputs = cast(attention_inputs({3, 4, 2, 1, 48}), dtype);
    const auto got = differentiate(attention_op(OpsPath::fast), inputs);
    EXPECT_TRUE(got.values[0].equal(inputs[2].transpose(1, 2).repeat_interleave(2, 1)));
    // What comes back through the only probability, which is 1, cancels up to the rounding of sums over dims.
    EXPECT_LE(got.gradients[0].abs().max().item<double>(), 1e-5);
    EXPECT_LE(got.gradients[1].abs().max().item<double>(), 1e-5);
    const auto expected = differentiate(attention_op(OpsPath::reference), inputs);
    EXPECT_LE(distance(got.gradients[2], expected.gradients[2]), dtype == at::kFloat ? 1e-6 : 8e-3);
  }
}

TEST(FastAttention, TakesAnyStrides) {
  // q and k as slices of one projection; a gradient dense in [B, H, T, D], one with a large last stride, and one expanded.
  const int64_t batch = 2, time = 70, dim = 32;
  const auto projection = random_tensor({batch, time, 8, dim}, 1);
  const auto weights = random_tensor({batch, 4, time, dim}, 2), transposed = random_tensor({batch, dim, 4, time}, 3);
  const auto gradients = [&](OpsPath path, at::ScalarType dtype, int which) {
    const auto leaf = projection.clone().to(dtype).requires_grad_();
    const auto part = [&](int64_t first, int64_t count) { return leaf.narrow(2, first, count).transpose(1, 2); };
    const auto y = causal_attention(part(0, 4), part(4, 2), part(6, 2), path);
    const auto incoming = which == 0   ? weights
                          : which == 1 ? transposed.permute({0, 2, 3, 1})
                                       : weights.narrow(1, 0, 1).narrow(2, 0, 1).expand({batch, 4, time, dim});
    y.backward(incoming.to(dtype));
    return leaf.grad();
  };
  for (int which = 0; which < 3; ++which) {
    EXPECT_LE(distance(gradients(OpsPath::fast, at::kFloat, which), gradients(OpsPath::reference, at::kFloat, which)), 3e-5);
    EXPECT_LE(mean_distance(gradients(OpsPath::fast, at::kBFloat16, which), gradients(OpsPath::reference, at::kFloat, which)),
              1e-2);
  }
}

TEST(FastAttention, LaysItsResultsOutAsTheModelReadsThem) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Tensors leaves;
    for (const auto& input : attention_inputs({2, 4, 2, 40, 32})) leaves.push_back(input.to(dtype).requires_grad_());
    const auto y = attention_op(OpsPath::fast)(leaves)[0];
    EXPECT_EQ(y.sizes(), (std::vector<int64_t>{2, 4, 40, 32}));
    EXPECT_TRUE(y.transpose(1, 2).is_contiguous());
    const auto v = leaves[2].transpose(1, 2);
    const auto gradients =
        torch::autograd::grad({causal_attention(leaves[0], leaves[1], v, OpsPath::fast).sum()}, {leaves[0], leaves[1], v});
    EXPECT_TRUE(gradients[0].is_contiguous());
    EXPECT_TRUE(gradients[1].is_contiguous());
    EXPECT_TRUE(gradients[2].transpose(1, 2).is_contiguous());
  }
}

TEST(FastAttention, HandlesLargeLogits) {
  // Maxima that move far from block to block: growing keys, then shrinking ones.
  Tensors inputs = attention_inputs({1, 2, 1, 300, 64});
  const auto slope = at::linspace(0.1, 4, 300).view({1, 1, 300, 1});
  for (const auto& growth : {slope, slope.flip(2)}) {
    const Tensors large{inputs[0] * 30, inputs[1] * growth, inputs[2]};
    const auto exact = differentiate(attention_op(OpsPath::reference), cast(cast(large, at::kBFloat16), at::kDouble));
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const auto rounded = cast(cast(large, at::kBFloat16), dtype);
      const auto got = differentiate(attention_op(OpsPath::fast), rounded);
      const auto reference = differentiate(attention_op(OpsPath::reference), rounded);
      EXPECT_LE(mean_distance(got.values[0], exact.values[0]), 1.5 * mean_distance(reference.values[0], exact.values[0]) + 1e-4);
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_TRUE(got.gradients[i].isfinite().all().item<bool>());
        EXPECT_LE(mean_distance(got.gradients[i], exact.gradients[i]),
                  1.5 * mean_distance(reference.gradients[i], exact.gradients[i]) + 1e-4);
      }
    }
  }
}

TEST(FastAttention, DoesNotLookAhead) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto inputs = cast(attention_inputs({1, 2, 2, 150, 32}), dtype);
    const auto before = attention_op(OpsPath::fast)(inputs)[0];
    for (const int64_t changed : {1, 31, 32, 100, 149}) {
      SCOPED_TRACE(c10::str(dtype, ", key ", changed));
      Tensors others;
      for (const auto& input : inputs) others.push_back(input.clone());
      others[1].narrow(2, changed, 150 - changed).fill_(7);
      others[2].narrow(1, changed, 150 - changed).fill_(-5);
      const auto after = attention_op(OpsPath::fast)(others)[0];
      EXPECT_TRUE(after.narrow(2, 0, changed).equal(before.narrow(2, 0, changed)));
      EXPECT_FALSE(after.select(2, changed).equal(before.select(2, changed)));
    }
  }
}

TEST(FastAttention, NanPropagates) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto inputs = cast(attention_inputs({1, 1, 1, 70, 32}), dtype);
    inputs[0][0][0][65][3] = std::numeric_limits<float>::quiet_NaN();
    const auto y = attention_op(OpsPath::fast)(inputs)[0];
    EXPECT_TRUE(y[0][0][65].isnan().all().item<bool>());
    EXPECT_FALSE(y[0][0].narrow(0, 0, 65).isnan().any().item<bool>());
  }
}

TEST(FastAttention, DoesNotDependOnTheNumberOfThreads) {
  const int before = at::get_num_threads();
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto inputs = cast(attention_inputs({2, 8, 2, 130, 32}), dtype);
    const auto run = [&](int threads) {
      at::set_num_threads(threads);
      return differentiate(attention_op(OpsPath::fast), inputs);
    };
    const auto one = run(1), three = run(3);
    EXPECT_TRUE(one.values[0].equal(three.values[0]));
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(one.gradients[i].equal(three.gradients[i])) << i;
  }
  at::set_num_threads(before);
}

TEST(FastAttention, RefusesASecondDerivative) {
  const auto q = random_tensor({1, 1, 8, 16}, 1).requires_grad_();
  const auto y = causal_attention(q, q, q, OpsPath::fast).sum();
  EXPECT_THROW(torch::autograd::grad({y}, {q}, {}, /*retain_graph=*/true, /*create_graph=*/true), c10::Error);
}

TEST(FastAttention, LeavesOtherShapesAndTypesToTheReference) {
  const auto expect_reference = [](const at::Tensor& q, const at::Tensor& k) {
    const auto fast = causal_attention(q.detach().requires_grad_(), k, k, OpsPath::fast);
    EXPECT_EQ(fast.grad_fn()->name().find("pgolf"), std::string::npos);
    EXPECT_TRUE(fast.equal(causal_attention(q, k, k, OpsPath::reference)));
  };
  expect_reference(random_tensor({1, 2, 9, 20}, 1), random_tensor({1, 1, 9, 20}, 2));
  expect_reference(random_tensor({1, 2, 9, 16}, 1).to(at::kDouble), random_tensor({1, 2, 9, 16}, 2).to(at::kDouble));
}

/// Everything that the float32 kernels of one instruction set write for one head.
std::vector<float> float_kernel_outputs(CpuLevel level, int64_t time, int64_t dim) {
  const auto& kernels = attention_kernels(level);
  const auto matrix = [&](int64_t seed) { return random_tensor({time, dim}, seed); };
  const auto q = matrix(1), k = matrix(2), v = matrix(3), dout = matrix(4);
  const auto rows = [&](const at::Tensor& x) { return Rows<const float*>{x.const_data_ptr<float>(), dim}; };
  const std::unique_ptr<void, decltype(&std::free)> scratch(
      std::aligned_alloc(64, static_cast<size_t>((kernels.scratch_bytes(time, dim) + 63) / 64 * 64)), &std::free);
  const size_t size = static_cast<size_t>(time * dim);
  std::vector<float> out(size), log_sums(static_cast<size_t>(time)), dq(size), dk(2 * size), dv(size), sum(size);
  const AttentionInput<float> input{rows(q), rows(k), rows(v), time, dim, /*window=*/time};
  kernels.forward(input, {out.data(), dim}, log_sums.data(), scratch.get());
  kernels.backward(input, {out.data(), dim}, rows(dout), log_sums.data(), {dq.data(), dim}, dk.data(), dv.data(), scratch.get());
  std::copy(dv.begin(), dv.end(), dk.begin() + static_cast<std::ptrdiff_t>(size));
  kernels.sum_heads(dk.data(), 2, {sum.data(), dim}, time, dim);
  std::vector<float> all;
  for (const auto& part : {out, log_sums, dq, dk, sum}) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST(AttentionKernels, Float32AgreesOnAllInstructionSets) {
  for (const auto& [time, dim] : {std::pair<int64_t, int64_t>{1, 16}, {33, 48}, {150, 32}, {131, 128}}) {
    const auto expected = float_kernel_outputs(CpuLevel::portable, time, dim);
    const float largest =
        std::abs(*std::max_element(expected.begin(), expected.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
    for (int level = 1; level <= static_cast<int>(cpu_level()); ++level) {
      const auto got = float_kernel_outputs(static_cast<CpuLevel>(level), time, dim);
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], expected[i], 2e-6f * largest) << cpu_level_name(static_cast<CpuLevel>(level));
    }
  }
}

}  // namespace
}  // namespace pgolf::ops::testing
