#include "pgolf/study/spikes.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pgolf {
namespace {

/// A loss that alternates around 3 by 0.05: median 3, robust deviation 1.4826 * 0.05.
std::vector<double> calm(int steps) {
  std::vector<double> losses;
  for (int i = 0; i < steps; ++i) losses.push_back(3 + (i % 2 == 0 ? 0.05 : -0.05));
  return losses;
}

TEST(Spikes, NoneInASmoothLoss) {
  EXPECT_TRUE(find_spikes(calm(200)).spikes.empty());
  EXPECT_TRUE(find_spikes({}).spikes.empty());
}

TEST(Spikes, NoneWhereEveryStepIsTheSame) {
  std::vector<double> losses(100, 2.0);
  losses[60] = 2.1;  // 5 % above, with a zero deviation: the floor of 1 % applies
  EXPECT_TRUE(find_spikes(losses).spikes.empty());
  losses[60] = 2.2;
  EXPECT_EQ(find_spikes(losses).spikes.size(), 1u);
}

TEST(Spikes, HeightAndRecovery) {
  auto losses = calm(100);
  losses[50] = 4;
  losses[51] = 5;
  losses[52] = 3.2;  // below the threshold, not yet within a deviation
  const auto report = find_spikes(losses);
  ASSERT_EQ(report.spikes.size(), 1u);
  EXPECT_EQ(report.spikes[0].first, 50u);
  EXPECT_DOUBLE_EQ(report.spikes[0].height, 2);
  EXPECT_EQ(report.spikes[0].recovery, 3u);
  EXPECT_TRUE(report.marked[50] && report.marked[51]);
  EXPECT_FALSE(report.marked[49] || report.marked[52]);
}

TEST(Spikes, ThresholdIsTheMedianAndSomeDeviations) {
  const double threshold = 3 + 8 * 1.4826 * 0.05;
  auto losses = calm(100);
  losses[50] = threshold - 1e-3;
  EXPECT_TRUE(find_spikes(losses).spikes.empty());
  losses[50] = threshold + 1e-3;
  EXPECT_EQ(find_spikes(losses).spikes.size(), 1u);
}

TEST(Spikes, TheFirstStepsAreNotJudged) {
  auto losses = calm(100);
  losses[31] = 9;
  EXPECT_TRUE(find_spikes(losses).spikes.empty());
  losses[32] = 9;
  EXPECT_EQ(find_spikes(losses).spikes.size(), 1u);
}

TEST(Spikes, ALossThatFallsSteeplyHasNone) {
  std::vector<double> losses;
  for (int i = 0; i < 300; ++i) losses.push_back(2 + 8 * std::exp(-i / 20.0) + 0.02 * std::sin(1.7 * i));
  EXPECT_TRUE(find_spikes(losses).spikes.empty());
}

TEST(Spikes, ALevelThatStaysIsOneSpikeWithoutRecovery) {
  auto losses = calm(100);
  for (size_t i = 50; i < 100; ++i) losses[i] += 3;
  const auto report = find_spikes(losses);
  ASSERT_EQ(report.spikes.size(), 1u);
  EXPECT_FALSE(report.spikes[0].recovery);
  losses.push_back(20);  // above the new level
  EXPECT_EQ(find_spikes(losses).spikes.size(), 2u);
}

}  // namespace
}  // namespace pgolf
