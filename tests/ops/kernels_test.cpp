// Every level that this processor has against the portable compilation of the same kernels.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "../../src/ops/kernels/select.h"

namespace pgolf::ops {
namespace {

float to_float(float value) {
  return value;
}
float to_float(Bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}
void set(float& to, float value) {
  to = value;
}
void set(Bf16& to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  to.bits = static_cast<uint16_t>(bits >> 16);
}

template <class T>
std::vector<T> numbers(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<T> result(count);
  for (auto& value : result) set(value, normal(generator));
  return result;
}

/// All outputs of all kernels, one after the other. 2 x 11 rows of 6 heads of 22 dims, 10 of them rotated.
template <class T>
std::vector<float> outputs(CpuLevel level) {
  const auto& kernels = cpu_kernels<T>(level);
  constexpr int64_t time = 11, rows = 2 * time, heads = 6, dim = 22, half = 5, width = heads * dim;
  constexpr float kFactor = 0.7f;
  const auto x = numbers<T>(rows * width, 1), x0 = numbers<T>(rows * width, 2), dy = numbers<T>(rows * width, 3);
  const auto mix = numbers<float>(2 * width, 4), gain = numbers<float>(heads, 5);
  const auto cos = numbers<float>(time * half, 6), sin = numbers<float>(time * half, 7);
  std::vector<T> y(rows * width), y0(rows * width);
  std::vector<float> rstd(rows * heads), sums(2 * width), result;
  const auto keep = [&](const auto& values) {
    for (const auto& value : values) result.push_back(to_float(value));
  };
  kernels.rms_norm(x.data(), kFactor, y.data(), rstd.data(), rows, width);
  keep(y), keep(rstd);
  kernels.rms_norm_backward(dy.data(), x.data(), rstd.data(), kFactor, y.data(), rows, width);
  keep(y);
  const RotationTable table{cos.data(), sin.data(), half};
  constexpr HeadShape shape{time, heads, dim};
  const Heads<const T*> from{x.data(), time * width, width, dim}, gradient{dy.data(), time * width, dim, time * dim};
  const Heads<T*> heads_first{y.data(), time * width, dim, time * dim}, time_first{y0.data(), time * width, width, dim};
  kernels.norm_rotate(from, heads_first, rstd.data(), table, gain.data(), shape, 0, rows);
  keep(y), keep(rstd);
  kernels.norm_rotate_backward(gradient, from, rstd.data(), table, gain.data(), time_first, sums.data(), shape, 0, rows);
  keep(y0), keep(std::vector<float>(sums.begin(), sums.begin() + heads));
  constexpr int64_t kv_heads = 2;
  constexpr GroupShape groups{time, kv_heads, heads / kv_heads, dim};
  const Heads<const T*> values{x0.data(), time * kv_heads * dim, dim, time * dim};
  const Heads<T*> dvalues{y0.data(), time * kv_heads * dim, kv_heads * dim, dim};
  kernels.exclude_value(from, values, heads_first, groups, 0, rows);
  keep(y);
  kernels.exclude_value_backward(gradient, from, values, heads_first, dvalues, groups, 0, rows);
  keep(y), keep(std::vector<T>(y0.begin(), y0.begin() + rows * kv_heads * dim));
  kernels.leaky_squared(x.data(), 0.25f, y.data(), rows * width);
  keep(y);
  kernels.leaky_squared_backward(dy.data(), x.data(), 0.25f, y.data(), rows * width);
  keep(y);
  kernels.swiglu(x.data(), x0.data(), y.data(), rows * width);
  keep(y);
  kernels.swiglu_backward(dy.data(), x.data(), x0.data(), y.data(), y0.data(), rows * width);
  keep(y), keep(y0);
  std::vector<T> normed(rows * width);
  const NormedOutput<T> second{x0.data(), normed.data(), rstd.data(), kFactor};
  kernels.residual_mix(x.data(), x0.data(), mix.data(), y.data(), kFactor, nullptr, nullptr, rows, width);
  keep(y);
  kernels.residual_mix(x.data(), x0.data(), mix.data(), y.data(), kFactor, normed.data(), rstd.data(), rows, width);
  keep(y), keep(normed), keep(rstd);
  for (const auto& incoming : {NormedOutput<T>{}, second}) {
    kernels.residual_mix_backward(dy.data(), incoming, x.data(), x0.data(), mix.data(), y.data(), y0.data(), sums.data(), rows,
                                  width);
    keep(y), keep(y0), keep(sums);
  }
  kernels.scaled_add(x.data(), mix.data(), x0.data(), y.data(), kFactor, nullptr, nullptr, rows, width);
  keep(y);
  kernels.scaled_add(x.data(), mix.data(), x0.data(), y.data(), kFactor, normed.data(), rstd.data(), rows, width);
  keep(y), keep(normed), keep(rstd);
  for (const auto& incoming : {NormedOutput<T>{}, second}) {
    kernels.scaled_add_backward(dy.data(), incoming, mix.data(), x0.data(), y.data(), y0.data(), sums.data(), rows, width);
    keep(y), keep(y0), keep(std::vector<float>(sums.begin(), sums.begin() + width));
  }
  const std::vector<int64_t> targets(rows, width - 1);
  std::vector<float> scratch(2 * width), loss(rows);
  for (const float cap : {2.0f, 0.0f}) {
    kernels.softcap_cross_entropy(x.data(), targets.data(), cap, 1.0f, loss.data(), y.data(), scratch.data(), rows, width);
    keep(loss), keep(y);
  }
  kernels.scale(y.data(), mix.data(), rows * width);
  keep(y);
  return result;
}

template <class T>
void expect_equal_instruction_sets(float tolerance) {
  const auto expected = outputs<T>(CpuLevel::portable);
  for (int level = 1; level <= static_cast<int>(cpu_level()); ++level) {
    const auto got = outputs<T>(static_cast<CpuLevel>(level));
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      const float allowed = tolerance * std::max(1.0f, std::abs(expected[i]));
      ASSERT_NEAR(got[i], expected[i], allowed) << cpu_level_name(static_cast<CpuLevel>(level)) << ", output " << i;
    }
  }
}

TEST(Kernels, Float32AgreesOnAllInstructionSets) {
  expect_equal_instruction_sets<float>(2e-5f);
}
TEST(Kernels, Bfloat16AgreesOnAllInstructionSets) {
  expect_equal_instruction_sets<Bf16>(1e-2f);
}

TEST(Kernels, Bfloat16RoundsToNearestEven) {
  // 1 + k / 256 lies between the bfloat16 numbers 1 + k / 128, at odd k: ties go to the even one.
  for (int level = 0; level <= static_cast<int>(cpu_level()); ++level) {
    const std::vector<float> scale{1.00390625f, 1.01171875f, 1.00390637f, 1.0f};
    const std::vector<Bf16> zeros(4), ones(4, Bf16{0x3f80});
    std::vector<Bf16> y(4);
    cpu_kernels<Bf16>(static_cast<CpuLevel>(level))
        .scaled_add(zeros.data(), scale.data(), ones.data(), y.data(), 1, nullptr, nullptr, 1, 4);
    EXPECT_EQ(to_float(y[0]), 1.0f);
    EXPECT_EQ(to_float(y[1]), 1.015625f);
    EXPECT_EQ(to_float(y[2]), 1.0078125f);
    EXPECT_EQ(to_float(y[3]), 1.0f);
  }
}

}  // namespace
}  // namespace pgolf::ops
