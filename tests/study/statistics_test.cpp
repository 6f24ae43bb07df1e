#include "pgolf/study/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pgolf {
namespace {

TEST(Statistics, MeanAndDeviation) {
  EXPECT_DOUBLE_EQ(mean({2, 4, 9}), 5);
  EXPECT_DOUBLE_EQ(*sample_deviation({2, 4, 9}), std::sqrt(13.0));  // (9 + 1 + 16) / 2
  EXPECT_FALSE(sample_deviation({2}));
}

TEST(Statistics, Quantiles) {
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile({10, 20, 30, 40, 50}, 0.1), 14);
  EXPECT_DOUBLE_EQ(quantile({10, 20, 30, 40, 50}, 1), 50);
  EXPECT_DOUBLE_EQ(quantile({7}, 0.9), 7);
}

TEST(Statistics, StudentT) {  // from a printed table
  EXPECT_NEAR(student_t_95(1), 12.706, 5e-4);
  EXPECT_NEAR(student_t_95(2), 4.303, 5e-4);
  EXPECT_NEAR(student_t_95(10), 2.228, 5e-4);
}

TEST(Statistics, PairedDifference) {
  // mean 0.2, deviation 0.1, standard error 0.1 / sqrt(3) = 0.057735, times 4.302653 = 0.248414
  const auto difference = paired_difference({0.1, 0.2, 0.3});
  EXPECT_EQ(difference.pairs, 3);
  EXPECT_NEAR(difference.mean, 0.2, 1e-12);
  EXPECT_NEAR(*difference.low, -0.048414, 1e-6);
  EXPECT_NEAR(*difference.high, 0.448414, 1e-6);
  EXPECT_FALSE(paired_difference({0.1}).low);
  EXPECT_EQ(paired_difference({}).pairs, 0);
}

TEST(Statistics, VerdictNeedsTheIntervalAndTheRange) {
  const auto clear = paired_difference({0.20, 0.21, 0.19});
  EXPECT_EQ(verdict(clear, 3.2, {3.0, 2.99, 3.01}), Verdict::higher);
  EXPECT_EQ(verdict(clear, 3.2, {3.0, 2.99, 3.21}), Verdict::no_difference) << "inside the range of the baseline's seeds";
  const auto below = paired_difference({-0.20, -0.21, -0.19});
  EXPECT_EQ(verdict(below, 2.8, {3.0, 2.99, 3.01}), Verdict::lower);
  EXPECT_EQ(verdict(below, 2.995, {3.0, 2.99, 3.01}), Verdict::no_difference);
  const auto noisy = paired_difference({0.1, 0.2, 0.3});
  EXPECT_EQ(verdict(noisy, 3.2, {3.0, 2.99, 3.01}), Verdict::not_decided) << "the interval includes 0";
  EXPECT_EQ(verdict(noisy, 3.2, {3.0, 2.99, 3.21}), Verdict::no_difference);
  EXPECT_EQ(verdict(paired_difference({0, 0, 0}), 3, {3, 3, 3}), Verdict::no_difference);
  EXPECT_EQ(verdict(paired_difference({0.2}), 3.2, {3.0}), Verdict::not_decided);
  EXPECT_EQ(verdict(paired_difference({}), 3.2, {}), Verdict::not_decided);
}

}  // namespace
}  // namespace pgolf
