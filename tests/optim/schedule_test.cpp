#include "pgolf/optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pgolf::testing {
namespace {

ScheduleConfig schedule_of(int iterations, int warmdown_iters, double cap_seconds, double warmdown_frac = -1) {
  ScheduleConfig schedule;
  schedule.iterations = iterations;
  schedule.warmdown_iters = warmdown_iters;
  schedule.max_wallclock_seconds = cap_seconds;
  schedule.warmdown_frac = warmdown_frac;
  return schedule;
}

TEST(LrScale, WithoutCapFallsOverTheLastIterations) {
  const auto schedule = schedule_of(100, 20, 0);
  for (const auto& [step, expected] :
       {std::pair(0, 1.0), {1, 1.0}, {79, 1.0}, {80, 1.0}, {81, 19.0 / 20}, {90, 0.5}, {99, 1.0 / 20}}) {
    EXPECT_DOUBLE_EQ(lr_scale(schedule, step, 123.0 * step), expected) << "step " << step;
  }
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 90, 0), lr_scale(schedule, 90, 1e9)) << "time does not matter";
}

TEST(LrScale, WarmdownLongerThanTheRunStartsBelowOne) {
  const auto schedule = schedule_of(10, 40, 0);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 0, 0), 0.25);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 6, 0), 0.1);
}

TEST(LrScale, WithoutWarmdownIsAlwaysOne) {
  for (const double cap : {0.0, 10.0}) {
    for (const int step : {0, 50, 99}) {
      EXPECT_EQ(lr_scale(schedule_of(100, 0, cap), step, 9999), 1.0);
      EXPECT_EQ(lr_scale(schedule_of(100, 50, cap, 0.0), step, 9999), 1.0);
    }
  }
}

TEST(LrScale, WithCapFallsOverTheTimeThatTheLastIterationsTake) {
  const auto schedule = schedule_of(1000, 4, 10);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 0, 0), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 5, 5000), 1.0) << "1000 ms a step: the last 4000 ms";
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 6, 6000), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 7, 7000), 0.75);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 3, 9000), 1000.0 / 12000) << "slower steps, longer warmdown";
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 10, 10'000), 0.0);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 11, 11'500), 0.0) << "beyond the cap";
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 999, 500), 1.0) << "iterations do not matter";
}

TEST(LrScale, AFractionIsOfTheBudgetThatLimits) {
  const auto timed = schedule_of(1000, 1200, 10, 0.25);
  EXPECT_DOUBLE_EQ(lr_scale(timed, 3, 7400), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale(timed, 3, 8000), 0.8);
  EXPECT_DOUBLE_EQ(lr_scale(timed, 30, 8000), 0.8) << "independent of the time per step";
  EXPECT_DOUBLE_EQ(lr_scale(timed, 3, 12'000), 0.0);
  const auto counted = schedule_of(200, 1200, 0, 0.25);
  EXPECT_DOUBLE_EQ(lr_scale(counted, 149, 0), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale(counted, 150, 0), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale(counted, 175, 0), 0.5);
  EXPECT_NEAR(lr_scale(counted, 199, 0), 1.0 / 50, 1e-15);
  EXPECT_DOUBLE_EQ(lr_scale(schedule_of(200, 1200, 10, 1.0), 3, 2500), 0.75);
}

TEST(LrScale, StaysAboveItsMinimumWhileItDecays) {
  for (auto schedule :
       {schedule_of(100, 20, 0), schedule_of(100, 1200, 0, 0.2), schedule_of(100, 20, 10), schedule_of(1, 0, 10, 0.2)}) {
    schedule.min_lr = 0.25;
    EXPECT_DOUBLE_EQ(lr_scale(schedule, 50, 5000), 1.0);
    EXPECT_NEAR(lr_scale(schedule, 92, 9200), 0.4, 1e-9);
    EXPECT_DOUBLE_EQ(lr_scale(schedule, 97, 9700), 0.25);
  }
}

TEST(LrScale, TimeInReserveIsNotForTraining) {
  ScheduleConfig schedule = schedule_of(1000, 1200, 32, 0.5);
  schedule.gptq_reserve_seconds = 12;
  EXPECT_DOUBLE_EQ(used_fraction(schedule, 3, 5000), 0.25);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 3, 10'000), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 3, 15'000), 0.5);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 3, 20'000), 0.0);
  schedule.warmdown_frac = -1;
  schedule.warmdown_iters = 4;
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 18, 18'000), 0.5);
  schedule.max_wallclock_seconds = 0;
  EXPECT_DOUBLE_EQ(used_fraction(schedule, 250, 5000), 0.25) << "without a cap there is nothing to reserve from";
}

TEST(LrScale, CosineRisesThenFallsToItsLastValue) {
  ScheduleConfig schedule = schedule_of(100, 1200, 0);
  schedule.lr_schedule = LrSchedule::cosine;
  schedule.lr_warmup_frac = 0.2;
  schedule.lr_min_scale = 0.1;
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 0, 0), 1.0 / 20);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 9, 0), 0.5);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 19, 0), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 20, 0), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 60, 0), 0.55) << "halfway down";
  EXPECT_NEAR(lr_scale(schedule, 40, 0), 0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2, 1e-12);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 100, 0), 0.1);
  schedule.max_wallclock_seconds = 10;
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 3, 1000), 0.5) << "of the time, independent of the step";
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 3, 6000), 0.55);
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 3, 20'000), 0.1);
  schedule.lr_warmup_frac = 0;
  EXPECT_DOUBLE_EQ(lr_scale(schedule, 0, 0), 1.0);
}

TEST(ExtraPasses, AreSwitchedOnInPhasesAndStayOn) {
  ScheduleConfig schedule;
  schedule.enable_looping_at = 0.35;
  EXPECT_EQ(extra_passes(schedule, 0, 0, 1.0), 0) << "no loops";
  EXPECT_EQ(extra_passes(schedule, 2, 0, 0.34), 0);
  EXPECT_EQ(extra_passes(schedule, 2, 0, 0.35), 2);
  EXPECT_EQ(extra_passes(schedule, 2, 2, 0.1), 2) << "a slower clock does not bring them back";
  schedule.loop_phase2_at = 0.65;
  EXPECT_EQ(extra_passes(schedule, 3, 0, 0.35), 1);
  EXPECT_EQ(extra_passes(schedule, 3, 0, 0.9), 1) << "one change per step";
  EXPECT_EQ(extra_passes(schedule, 3, 1, 0.64), 1);
  EXPECT_EQ(extra_passes(schedule, 3, 1, 0.65), 3);
  EXPECT_EQ(extra_passes(schedule, 1, 1, 0.65), 1);
}

TEST(MuonMomentum, RisesLinearlyAndStays) {
  OptimConfig optim;
  EXPECT_DOUBLE_EQ(muon_momentum(optim, 0), 0.85);
  EXPECT_DOUBLE_EQ(muon_momentum(optim, 250), 0.90);
  EXPECT_DOUBLE_EQ(muon_momentum(optim, 500), 0.95);
  EXPECT_DOUBLE_EQ(muon_momentum(optim, 5000), 0.95);
  optim.muon_momentum_warmup_steps = 0;
  EXPECT_DOUBLE_EQ(muon_momentum(optim, 0), 0.95);
}

}  // namespace
}  // namespace pgolf::testing
