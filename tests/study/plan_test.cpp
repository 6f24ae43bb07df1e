#include "pgolf/study/plan.h"

#include <algorithm>
#include <set>

#include "pgolf/study/arm.h"
#include "support/files.h"

namespace pgolf::testing {
namespace {

using Texts = std::vector<std::string>;
using Axes = std::vector<std::pair<std::string, Texts>>;

/// Heads of 64 dims, 4 layers.
const Texts kFixed = {"--model-dim", "256", "--num-heads", "4", "--num-layers", "4", "--max-wallclock-seconds", "0"};

SweepPlan plan(const Axes& varied, const Texts& more = {}, const Environment& environment = {}) {
  SweepRequest request{.varied = varied, .fixed = kFixed, .out_dir = "runs/x"};
  request.fixed.insert(request.fixed.end(), more.begin(), more.end());
  return plan_sweep(request, environment);
}

bool mentions(const Texts& lines, const std::string& part) {
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

TEST(SweepPlan, CrossProductWithTheSeedSlowest) {
  const auto sweep = plan({{"ROPE_DIMS", {"none", "full"}}, {"QK_NORM", {"0", "1"}}, {"SEED", {"1", "2"}}});
  ASSERT_EQ(sweep.runs.size(), 8u);
  const auto& last_of_seed_1 = sweep.runs[3].command.config;
  EXPECT_EQ(last_of_seed_1.runtime.seed, 1);
  EXPECT_EQ(last_of_seed_1.model.widest_rope().rope_dims, 64);
  EXPECT_TRUE(last_of_seed_1.model.qk_norm);
  EXPECT_EQ(sweep.runs[4].command.config.runtime.seed, 2);
  EXPECT_EQ(sweep.runs[4].command.config.model.widest_rope().rope_dims, 0);
  std::set<std::string> ids;
  for (const auto& run : sweep.runs) ids.insert(run.run_id);
  EXPECT_EQ(ids.size(), 8u);
}

TEST(SweepPlan, EquivalentCombinationsAreRunOnce) {
  const auto sweep = plan({{"ROPE_DIMS", {"64", "96", "full", "16"}}, {"SEED", {"1", "2"}}});
  ASSERT_EQ(sweep.runs.size(), 4u);
  EXPECT_EQ(sweep.runs[0].requested, (Texts{"ROPE_DIMS=64", "ROPE_DIMS=96", "ROPE_DIMS=full"}));
  EXPECT_EQ(sweep.runs[0].command.config.model.widest_rope().rope_dims, 64);
  EXPECT_TRUE(mentions(sweep.notes, "ROPE_DIMS=96 is equivalent to ROPE_DIMS=64"));
  EXPECT_TRUE(mentions(sweep.warnings, "exceeds the 64 dims"));
  const auto fractions = plan({{"ROPE_FRACTION", {"0.1", "0.09", "0", "1"}}});
  ASSERT_EQ(fractions.runs.size(), 3u);
  EXPECT_EQ(fractions.runs[0].command.config.model.widest_rope().rope_dims, 6);
}

TEST(SweepPlan, EveryOtherSettingOfTheRotationIsAnotherRun) {
  const std::vector<std::pair<std::string, Texts>> axes{{"ROPE_BASE", {"10000", "500"}},
                                                        {"ROPE_TABLE_DTYPE", {"float32", "bfloat16"}},
                                                        {"ROPE_DROP_AT", {"none", "0.5", "0.7"}},
                                                        {"ROPE_STYLE", {"half", "interleaved"}}};
  for (const auto& axis : axes) {
    const auto sweep = plan({axis});
    EXPECT_EQ(sweep.runs.size(), axis.second.size()) << axis.first;
    std::set<std::string> identities;
    for (const auto& run : sweep.runs) identities.insert(run_identity(run.command));
    EXPECT_EQ(identities.size(), axis.second.size()) << axis.first;
  }
}

TEST(SweepPlan, DimsAndFractionOfOtherCallsAreTheSameWork) {
  const auto dims = plan({{"ROPE_DIMS", {"6"}}}), fraction = plan({{"ROPE_FRACTION", {"0.1"}}}),
             layers = plan({{"ROPE_LAYERS", {"6"}}});
  const auto identity = [](const SweepPlan& sweep) { return run_identity(sweep.runs.at(0).command); };
  EXPECT_EQ(identity(dims), identity(fraction));
  EXPECT_EQ(identity(dims), identity(layers));
}

TEST(SweepPlan, SettingsWithoutEffectDoNotMatter) {
  EXPECT_EQ(plan({{"ROPE_DIMS", {"none", "16", "full"}}, {"ROPE_SELECT", {"prefix", "high"}}}).runs.size(), 4u);
  EXPECT_EQ(plan({{"ROPE_DIMS", {"none", "full"}}, {"ROPE_STYLE", {"half", "interleaved"}}}).runs.size(), 3u);
  EXPECT_EQ(plan({{"ROPE_DIMS", {"none", "full"}}, {"ROPE_BASE", {"1e4", "5e5"}}}).runs.size(), 3u);
  EXPECT_EQ(plan({{"NUM_THREADS", {"1", "2"}}}).runs.size(), 2u) << "varied on purpose";
}

TEST(SweepPlan, RunIdsAreReadableAndDifferByFixedOptions) {
  const auto id = [](const Texts& more, const Axes& varied = {{"ROPE_DIMS", {"16"}}, {"SEED", {"1"}}}) {
    return plan(varied, more).runs.at(0).run_id;
  };
  EXPECT_TRUE(id({}).starts_with("rope_dims-16.seed-1-")) << id({});
  EXPECT_EQ(id({}), id({}));
  EXPECT_NE(id({}), id({"--matrix-lr", "0.02"}));
  EXPECT_NE(id({}), id({"--data-path", "elsewhere"}));
  EXPECT_EQ(id({}), id({"--matrix-lr", "0.04"})) << "the default";
  EXPECT_EQ(id({}), id({"--train-log-every", "7"})) << "changes no result";
  const auto large = id({}, {{"ROPE_BASE", {"1e+30"}}}), small = id({}, {{"MATRIX_LR", {"1e-30"}}});
  EXPECT_TRUE(large.starts_with("rope_base-1e30-")) << large;
  EXPECT_TRUE(small.starts_with("matrix_lr-1e-30-")) << small;
  const auto schedule = id({}, {{"ROPE_LAYERS", {"full*3,none"}}});
  EXPECT_TRUE(schedule.starts_with("rope_layers-fullx3-none-")) << schedule;
}

TEST(SweepPlan, ArgumentsAreWhatTrainGptGets) {
  const auto sweep = plan({{"ROPE_DIMS", {"96"}}, {"SEED", {"3"}}});
  const auto& words = sweep.runs.at(0).arguments;
  const std::string line = shell_line(words);
  EXPECT_NE(line.find("--rope-dims 96 --seed 3 --out-dir runs/x --run-id rope_dims-full.seed-3-"), std::string::npos) << line;
  EXPECT_TRUE(line.ends_with(" --resume auto"));
  std::vector<const char*> argv{"train_gpt"};
  for (const auto& word : words) argv.push_back(word.c_str());
  const auto command = resolve_train_command(static_cast<int>(argv.size()), argv.data(), {});
  EXPECT_EQ(command.config.output.run_id, sweep.runs[0].run_id);
  EXPECT_EQ(command.resume, "auto");
}

TEST(SweepPlan, WrongOptionsFailBeforeAnythingRuns) {
  expect_error(ExitCode::usage, {"15", "14", "16", "--rope-dims"}, [] { plan({{"ROPE_DIMS", {"16", "15"}}}); });
  expect_error(ExitCode::usage, {"unknown flag --rope-dim"}, [] { plan({{"SEED", {"1"}}}, {"--rope-dim", "2"}); });
  expect_error(ExitCode::usage, {"--rope-dims", "both sides"}, [] { plan({{"ROPE_DIMS", {"16"}}}, {"--rope-dims", "2"}); });
  expect_error(ExitCode::usage, {"--rope-dims", "both sides"}, [] { plan({{"ROPE_DIMS", {"16"}}}, {"--rope-dims=2"}); });
  expect_error(ExitCode::usage, {"--out-dir after --"}, [] { plan({{"SEED", {"1"}}}, {"--out-dir", "x"}); });
  expect_error(ExitCode::usage, {"--run-id after --"}, [] { plan({{"SEED", {"1"}}}, {"--run-id", "x"}); });
  expect_error(ExitCode::usage, {"--dry-run"}, [] { plan({{"SEED", {"1"}}}, {"--dry-run"}); });
  expect_error(ExitCode::usage, {"MIN_STEPS=9 (flag --min-steps): every run of a sweep"}, [] {
    plan_sweep({.varied = {{"SEED", {"1"}}}, .fixed = {"--min-steps", "9"}, .out_dir = "x"}, {});
  });
  expect_error(ExitCode::usage, {"conflict"}, [] { plan({{"ROPE_LAYERS", {"full*3,none"}}}, {"--rope-dims", "2"}); });
}

TEST(SweepPlan, TheEnvironmentCountsAsItWillForTheRuns) {
  EXPECT_EQ(plan({{"SEED", {"1"}}}, {}, {{"ROPE_DIMS", "16"}}).runs.at(0).command.config.model.widest_rope().rope_dims, 16);
  EXPECT_EQ(plan({{"ROPE_DIMS", {"6"}}}, {}, {{"ROPE_DIMS", "16"}}).runs.at(0).command.config.model.widest_rope().rope_dims, 6);
}

TEST(SweepPlan, Advice) {
  const auto partial = plan({{"ROPE_DIMS", {"6", "16"}}});
  EXPECT_TRUE(mentions(partial.notes, "add none"));
  EXPECT_TRUE(mentions(partial.notes, "add full"));
  EXPECT_TRUE(partial.warnings.empty());
  EXPECT_TRUE(plan({{"ROPE_DIMS", {"none", "full"}}}).notes.empty());
  EXPECT_TRUE(plan({{"SEED", {"1"}}}).notes.empty()) << "only where rotation is swept";

  SweepRequest capped{.varied = {{"SEED", {"1"}}}, .fixed = {}, .out_dir = "x"};
  EXPECT_TRUE(mentions(plan_sweep(capped, {}).warnings, "MAX_WALLCLOCK_SECONDS"));
  const auto unequal = plan({{"TRAIN_BATCH_TOKENS", {"524288", "262144"}}, {"TRAIN_SEQ_LEN", {"1024", "2048"}}});
  EXPECT_TRUE(mentions(unequal.warnings, "multiple of 16384"));
  EXPECT_TRUE(plan({{"TRAIN_SEQ_LEN", {"1024", "2048"}}}).warnings.empty()) << "equal tokens per step";
}

TEST(SweepPlan, ThreadsOfARun) {
  const auto sweep = plan_sweep({.varied = {{"SEED", {"1"}}}, .fixed = kFixed, .out_dir = "x", .threads = 3}, {});
  EXPECT_EQ(sweep.runs.at(0).command.config.runtime.num_threads, 3);
}

TEST(ShellWords, Quoting) {
  EXPECT_EQ(shell_quoted("--rope-dims"), "--rope-dims");
  EXPECT_EQ(shell_quoted(""), "''");
  EXPECT_EQ(shell_quoted("a b"), "'a b'");
  EXPECT_EQ(shell_quoted("full*3,none"), "'full*3,none'");
  EXPECT_EQ(shell_quoted("it's"), "'it'\\''s'");
}

}  // namespace
}  // namespace pgolf::testing
