// Schedules by time: what the record programs did at which time, as functions of the recorded times.
#include "../../../src/train/training_clock.h"
#include "pgolf/base/format.h"
#include "pgolf/optim/schedule.h"
#include "record_models.h"

namespace pgolf::reference {
namespace {

struct ClockCase {
  char program;
  double warmdown_frac;  ///< the program's default; < 0: WARMDOWN_ITERS
  double reserve_seconds;
  double matrix_lr;
};

std::ostream& operator<<(std::ostream& out, const ClockCase& c) {
  return out << c.program;
}

class Clock : public ReferenceTest, public ::testing::WithParamInterface<ClockCase> {
 protected:
  static ScheduleConfig schedule(const json& env) {
    const auto number = [&](const char* name, double otherwise) {
      return env.contains(name) ? std::stod(env.at(name).get<std::string>()) : otherwise;
    };
    ScheduleConfig schedule;
    schedule.iterations = static_cast<int>(number("ITERATIONS", 0));
    schedule.max_wallclock_seconds = number("MAX_WALLCLOCK_SECONDS", 0);
    schedule.gptq_reserve_seconds = GetParam().reserve_seconds;
    schedule.warmdown_frac = GetParam().warmdown_frac;
    schedule.warmdown_iters = static_cast<int>(number("WARMDOWN_ITERS", 0));
    schedule.min_lr = number("MIN_LR", 0);
    if (GetParam().program == 'D') schedule.enable_looping_at = 0.35;
    schedule.loop_phase2_at = number("LOOP_PHASE2_AT", 0);
    return schedule;
  }
};

TEST_P(Clock, RatesMomentumOrderAndTheEndAreFunctionsOfTheTime) {
  const auto recorded = load_json(format("records/clock/%c.json", GetParam().program));
  const ModelConfig model = record_model(GetParam().program, recorded.at("env"));
  const ScheduleConfig config = schedule(recorded.at("env"));
  OptimConfig optim;
  optim.muon_momentum = 0.99;
  optim.muon_momentum_warmup_start = 0.92;
  optim.muon_momentum_warmup_steps = 8;
  StopCondition stop(config);
  const std::vector<double> step_ms{750, 1250, 1000, 500};
  double elapsed_ms = 0;
  int64_t step = 0;
  int passes = 0;
  for (; !stop.reached(step); ++step) {
    ASSERT_LT(static_cast<size_t>(step), recorded.at("steps").size());
    const auto& expected = recorded.at("steps").at(static_cast<size_t>(step));
    SCOPED_TRACE(format("step %lld", static_cast<long long>(step)));
    ASSERT_EQ(elapsed_ms, expected.at("elapsed_ms").get<double>());
    const int done = static_cast<int>(step);
    if (expected.contains("frac")) {
      const double used = used_fraction(config, done, elapsed_ms);
      EXPECT_EQ(used, expected.at("frac").get<double>());
      passes = extra_passes(config, model.num_loops, passes, used);
      EXPECT_EQ(model.order(passes).encoder, expected.at("encoder").get<std::vector<int>>());
      EXPECT_EQ(model.order(passes).decoder, expected.at("decoder").get<std::vector<int>>());
    }
    EXPECT_EQ(GetParam().matrix_lr * lr_scale(config, done, elapsed_ms), expected.at("lr_muon").get<double>());
    EXPECT_EQ(muon_momentum(optim, done), expected.at("momentum").get<double>());
    elapsed_ms += step_ms[static_cast<size_t>(step) % step_ms.size()];
    stop.check_time(step + 1, elapsed_ms);
  }
  EXPECT_EQ(step, recorded.at("steps_done").get<int64_t>());
}

INSTANTIATE_TEST_SUITE_P(Programs, Clock,
                         ::testing::Values(ClockCase{'A', 0.667, 12, 0.02}, ClockCase{'B', 0.667, 12, 0.02},
                                           ClockCase{'C', -1, 0, 0.025}, ClockCase{'D', 0.72, 12, 0.022}),
                         [](const auto& info) { return std::string(1, info.param.program); });

}  // namespace
}  // namespace pgolf::reference
