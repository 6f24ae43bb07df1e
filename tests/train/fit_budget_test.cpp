#include "pgolf/train/fit_budget.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <numbers>

namespace pgolf::testing {
namespace {

/// A model of normal weights, whose codes have a standard deviation of 31 / (12.85 * factor).
class FitBudget : public ::testing::Test {
 protected:
  void SetUp() override {
    torch::manual_seed(4);
    state_ = {{"a.weight", at::randn({300, 300})}, {"b.weight", at::randn({400, 300})}, {"gain", at::randn({30})}};
    prepared_ = prepare_hessians({{{"a.weight", "b.weight"}, at::eye(300)}});
  }
  FittedModel fit(int64_t limit) {
    return fit_budget(
        [&](double factor) {
          factors_.push_back(factor);
          return quantize_gptq(state_, prepared_, {.matrix_clip_sigmas = 12.85 * factor});
        },
        [&](const QuantizedModel& model) {
          return make_artifact(model, {}, {Quantizer::gptq, CodeFormat::gptq, Codec::zlib});
        },
        limit);
  }
  int64_t size_at(double factor) {
    const auto model = quantize_gptq(state_, prepared_, {.matrix_clip_sigmas = 12.85 * factor});
    return static_cast<int64_t>(make_artifact(model, {}, {Quantizer::gptq, CodeFormat::gptq, Codec::zlib}).file.size());
  }

  StateDict state_;
  PreparedHessians prepared_;
  std::vector<double> factors_;
};

TEST_F(FitBudget, InformationIsWhatTheCodesNeed) {
  const QuantizedModel model = quantize_gptq(state_, prepared_, {});
  const double expected_bits = std::log2(31 / 12.85) + 0.5 * std::log2(2 * std::numbers::pi * std::numbers::e);
  EXPECT_NEAR(information_bytes(model), 210'000 * expected_bits / 8 + 2 * 700 + 2 * 30, 0.01 * 210'000);
  EXPECT_LT(information_bytes(model), static_cast<double>(size_at(1)));
}

TEST_F(FitBudget, WhatFitsStaysAsItIs) {
  const FittedModel fitted = fit(size_at(1));
  EXPECT_EQ(fitted.factor, 1);
  EXPECT_EQ(fitted.compressed, 1);
  EXPECT_EQ(factors_, std::vector<double>{1});
}

TEST_F(FitBudget, TheSmallestFactorThatFits) {
  const int64_t full = size_at(1);
  for (const double share : {0.995, 0.97, 0.9, 0.7}) {
    factors_.clear();
    const auto limit = static_cast<int64_t>(share * static_cast<double>(full));
    const FittedModel fitted = fit(limit);
    const auto size = static_cast<int64_t>(fitted.artifact.file.size());
    EXPECT_LE(size, limit) << share;
    EXPECT_GE(size, limit - limit / 200) << share << ": closer to the limit than half a percent";
    EXPECT_EQ(size, size_at(fitted.factor)) << "the artifact is that of the factor";
    EXPECT_LE(fitted.compressed, 3) << share;
    EXPECT_GT(fitted.factor, 1);
  }
}

TEST_F(FitBudget, AnImpossibleLimitEnds) {
  for (const int64_t limit : {int64_t{1000}, int64_t{0}, int64_t{-5}}) {
    const FittedModel fitted = fit(limit);
    EXPECT_EQ(fitted.factor, 8);
    EXPECT_GT(fitted.artifact.file.size(), 1000u);
  }
}

}  // namespace
}  // namespace pgolf::testing
