// MIN_STEPS: predictions from few timings, and that a run equals one with the chosen values.
#include "pgolf/train/min_steps.h"

#include "support/training.h"

namespace pgolf::testing {
namespace {

/// A machine with known step times.
struct Machine {
  double update_ms, ms_per_token, ms_per_layer = 0;
  std::vector<StepSize> timed = {};

  double step_ms(const StepSize& size) const {
    return update_ms + ms_per_token * static_cast<double>(size.tokens) + ms_per_layer * size.layers;
  }
  StepFit fit(double max_step_ms, const std::vector<int64_t>& tokens = {16384, 8192, 4096, 2048},
              const std::vector<int>& layers = {6, 5, 4, 3, 2}) {
    timed.clear();
    return fit_steps(tokens, layers, max_step_ms, [this](const StepSize& size, double allowed_ms) {
      timed.push_back(size);
      const double ms = step_ms(size);
      return StepTimes{ms, ms * std::max(1.0, std::min(3.0, std::floor(allowed_ms / ms)))};
    });
  }
};

void expect_fit(const StepFit& fit, const StepSize& size, double step_ms, bool fits = true) {
  EXPECT_EQ(fit.size.tokens, size.tokens);
  EXPECT_EQ(fit.size.layers, size.layers);
  EXPECT_NEAR(fit.step_ms, step_ms, 1e-6);
  EXPECT_EQ(fit.fits, fits);
}

TEST(FitSteps, TakesTheMostTokensThatFit) {
  Machine machine{.update_ms = 20, .ms_per_token = 0.035};
  expect_fit(machine.fit(600), {16384, 6}, machine.step_ms({16384, 6}));
  expect_fit(machine.fit(593.44), {16384, 6}, 593.44);
  expect_fit(machine.fit(593.43), {8192, 6}, machine.step_ms({8192, 6}));
  expect_fit(machine.fit(200), {4096, 6}, machine.step_ms({4096, 6}));
  expect_fit(machine.fit(100), {2048, 6}, machine.step_ms({2048, 6}));
  EXPECT_EQ(machine.timed, (std::vector<StepSize>{{2048, 6}, {16384, 6}})) << "fast enough to time the largest itself";
}

TEST(FitSteps, PredictsWhatTakesTooLongToTime) {
  Machine machine{.update_ms = 100, .ms_per_token = 0.15};  // at most 2557 ms
  expect_fit(machine.fit(2600), {16384, 6}, machine.step_ms({16384, 6}));
  EXPECT_EQ(machine.timed, (std::vector<StepSize>{{2048, 6}, {8192, 6}}));
  // Seconds per step: nothing else is timed, and time is assumed proportional to tokens, which errs on the side of more steps.
  Machine slow{.update_ms = 200, .ms_per_token = 0.9};
  expect_fit(slow.fit(10'000), {8192, 6}, 4 * slow.step_ms({2048, 6}));
  EXPECT_EQ(slow.timed.size(), 1u);
}

TEST(FitSteps, TakesFewerLayersIfTheFewestTokensTakeTooLong) {
  Machine machine{.update_ms = 0, .ms_per_token = 0.05, .ms_per_layer = 100};  // 102 ms and 100 a layer
  expect_fit(machine.fit(600), {2048, 4}, machine.step_ms({2048, 4}));
  EXPECT_EQ(machine.timed, (std::vector<StepSize>{{2048, 6}, {2048, 5}})) << "5 were predicted to fit, and did not";
  expect_fit(machine.fit(585), {2048, 4}, machine.step_ms({2048, 4}));
  expect_fit(machine.fit(310), {2048, 2}, machine.step_ms({2048, 2}));
  expect_fit(machine.fit(200), {2048, 2}, machine.step_ms({2048, 2}), false);
  expect_fit(machine.fit(600, {2048}, {6, 3}), {2048, 3}, machine.step_ms({2048, 3}));
  EXPECT_EQ(machine.timed.size(), 2u);
}

TEST(FitSteps, UsesTheOnlySize) {
  Machine machine{.update_ms = 0, .ms_per_token = 1};
  expect_fit(machine.fit(100, {64}, {2}), {64, 2}, 64);
  expect_fit(machine.fit(50, {64}, {2}), {64, 2}, 64, false);
  EXPECT_EQ(machine.timed.size(), 1u);
}

TEST(FitSteps, FallingTimesAreNoise) {
  const auto measure = [](const StepSize& size, double) {
    const bool first = size == StepSize{2048, 6};
    return StepTimes{.best_ms = first ? 500.0 : size.layers == 6 ? 400.0 : 510.0, .spent_ms = 1500};
  };
  expect_fit(fit_steps({8192, 4096, 2048}, {6}, 600, measure), {8192, 6}, 400);
  expect_fit(fit_steps({2048}, {6, 5, 4, 3}, 430, measure), {2048, 3}, 510, false);
}

/// train_gpt with at most 4 layers and 512 tokens per step. No step is within the cap, so that a call trains one step.
class MinSteps : public ::testing::Test {
 protected:
  ProgramResult train(const char* run_id, const std::vector<std::string>& arguments, const Variables& changes = {}) const {
    Variables variables = tiny_variables({{"OUT_DIR", folder_.path().string()},
                                          {"RUN_ID", run_id},
                                          {"NUM_LAYERS", "4"},
                                          {"ROPE_LAYERS", "full,4"},
                                          {"TRAIN_BATCH_TOKENS", "512"},
                                          {"MAX_WALLCLOCK_SECONDS", "1e-6"},
                                          {"ITERATIONS", "20000"},
                                          {"SAVE_EVERY", "1"}});
    for (const auto& [name, value] : changes) variables[name] = value;
    const auto result = run_program("train_gpt", arguments, variables);
    EXPECT_EQ(result.code, 0) << result.err;
    return result;
  }
  RunFolder run(const char* run_id) const { return {folder_ / run_id}; }
  std::string config(const char* run_id) const { return read_text(run(run_id).config()); }
  /// The checkpoints after `steps` steps and the models are equal.
  void expect_same_runs(const char* a, const char* b, int steps) const {
    EXPECT_EQ(read_bytes(run(a).model()), read_bytes(run(b).model()));
    EXPECT_EQ(read_bytes(run(a).artifact()), read_bytes(run(b).artifact()));
    const auto first = load_newest_checkpoint(run(a).checkpoints()), second = load_newest_checkpoint(run(b).checkpoints());
    ASSERT_TRUE(first && second);
    EXPECT_EQ(first->state.step, steps);
    EXPECT_EQ(second->state.step, steps);
    EXPECT_EQ(first->state.loader_position, second->state.loader_position);
    expect_same_tensors(first->tensors, second->tensors);  // the generator's state is one of them
    auto settings = first->state.config, others = second->state.config;
    for (auto* texts : {&settings, &others}) texts->erase("RUN_ID");
    EXPECT_EQ(settings, others);
  }

  TempFolder folder_;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(MinSteps, TheRunEqualsOneWithTheChosenValues) {
  const auto chosen = train("chosen", {"--min-steps", "7"});
  const std::string line = "min_steps:7 smallest:TRAIN_BATCH_TOKENS=128 (of 512) NUM_LAYERS=2 (of 4) predicted_step:";
  EXPECT_TRUE(has(chosen.out, line)) << chosen.out;
  EXPECT_TRUE(has(read_text(run("chosen").log()), line));
  EXPECT_TRUE(has(chosen.err, "warning: MIN_STEPS=7: the smallest step takes about ")) << chosen.err;
  EXPECT_TRUE(has(read_text(run("chosen").log()), "warning: MIN_STEPS=7: "));
  const std::vector<std::string> lines = split(config("chosen"), '\n');
  for (const auto& [setting, origin] : std::map<std::string, std::string>{{"TRAIN_BATCH_TOKENS=128 ", "# chosen for MIN_STEPS=7"},
                                                                          {"NUM_LAYERS=2 ", "# chosen for MIN_STEPS=7"},
                                                                          {"MIN_STEPS=0 ", "# was 7 (flag --min-steps)"},
                                                                          {"ROPE_LAYERS=full,4 ", "# environment ROPE_LAYERS"}}) {
    EXPECT_TRUE(std::any_of(lines.begin(), lines.end(), [&](const auto& text) {
      return text.starts_with(setting) && text.ends_with(origin);
    })) << config("chosen");
  }
  EXPECT_EQ(read_metrics(run("chosen").metrics()).front().at("config").at("NUM_LAYERS"), "2");

  train("direct", {"--train-batch-tokens", "128", "--num-layers", "2"});
  expect_same_runs("chosen", "direct", 1);
  const auto again = run_program("train_gpt", {"--config", run("chosen").config().string(), "--run-id", "again"});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_FALSE(has(again.out, "min_steps:"));
  expect_same_runs("chosen", "again", 1);

  // Resumed with the original flags, and with the values chosen from them, which are the checkpoint's. No time is left for a step.
  train("direct", {"--resume", "--train-batch-tokens", "128", "--num-layers", "2"});
  const auto resumed = train("chosen", {"--resume", "--min-steps", "7"});
  EXPECT_TRUE(has(resumed.out, "resumed:step:1 ") && !has(resumed.out, "min_steps:")) << resumed.out;
  expect_same_runs("chosen", "direct", 1);
  EXPECT_TRUE(has(config("chosen"), "# from the checkpoint for MIN_STEPS=7\n")) << config("chosen");
  train("direct", {"--resume", "--train-batch-tokens", "128", "--num-layers", "2"});
  EXPECT_EQ(run_program("train_gpt", {"--resume", run("chosen").path.string(), "--config", run("chosen").config().string()}).code,
            0);
  expect_same_runs("chosen", "direct", 1);
}

TEST_F(MinSteps, AResumedRunTakesNoMoreThanIsGiven) {
  train("run", {"--min-steps", "1"});
  const auto result = run_program("train_gpt", {"--resume", run("run").path.string(), "--config", run("run").config().string(),
                                                "--min-steps", "1", "--num-layers", "1", "--rope-layers", "full"});
  EXPECT_EQ(result.code, 2);
  EXPECT_TRUE(has(result.err, "NUM_LAYERS: checkpoint has 2, this run has 1")) << result.err;
}

TEST_F(MinSteps, SizesThatFitAreKept) {
  // Only ITERATIONS steps need to fit.
  const Variables three{{"MAX_WALLCLOCK_SECONDS", "1000"}, {"ITERATIONS", "3"}, {"NUM_LAYERS", "2"}};
  const auto chosen = train("chosen", {"--min-steps", "2000000000"}, three);
  EXPECT_TRUE(has(chosen.out, "min_steps:2000000000 fits:TRAIN_BATCH_TOKENS=512 NUM_LAYERS=2 predicted_step:")) << chosen.out;
  EXPECT_EQ(chosen.err, "");
  EXPECT_FALSE(has(config("chosen"), "# chosen for"));
  train("direct", {}, three);
  expect_same_runs("chosen", "direct", 3);
}

TEST_F(MinSteps, OnlyValidValuesAreUsed) {
  const auto result = train("run", {"--min-steps", "1"}, {{"ROPE_LAYERS", "full*2,4"}, {"MICRO_BATCH_TOKENS", "256"}});
  EXPECT_TRUE(has(result.out, " smallest:TRAIN_BATCH_TOKENS=256 (of 512) NUM_LAYERS=3 (of 4) ")) << result.out;
}

TEST_F(MinSteps, DryRunTimesNothing) {
  const auto result = train("run", {"--dry-run", "--min-steps", "7"});
  EXPECT_TRUE(has(result.out, "MIN_STEPS=7 ") && has(result.out, "TRAIN_BATCH_TOKENS=512 ")) << result.out;
  EXPECT_TRUE(has(result.out, "\nmin_steps: the run first times a few steps")) << result.out;
  EXPECT_FALSE(fs::exists(run("run").path));
}

}  // namespace
}  // namespace pgolf::testing
