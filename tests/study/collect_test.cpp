#include "pgolf/study/collect.h"

#include "pgolf/config/cache_size.h"
#include "pgolf/study/plots.h"
#include "pgolf/study/report.h"
#include "pgolf/study/sweep_folder.h"
#include "pgolf/study/tables.h"
#include "study_testing.h"

namespace pgolf::testing {
namespace {

/// As left by a shell loop: three seeds of none, 16 and full.
class ShellSweep : public ::testing::Test {
 protected:
  ShellSweep() {
    for (int seed = 1; seed <= 3; ++seed) {
      add("none", seed, 3.5 + 0.01 * seed);
      add("16", seed, 3.0 + 0.01 * seed + 0.003 * (seed - 2));
      add("full", seed, 3.0 + 0.01 * seed);
    }
  }
  void add(const std::string& dims, int seed, double loss) {
    write_run(folder_ / format("run_%s_%d", dims.c_str(), seed), format("ROPE_DIMS=%s\nSEED=%d\n", dims.c_str(), seed), loss);
  }
  TempFolder folder_;
};

TEST_F(ShellSweep, ArmsAndVerdicts) {
  const auto summary = summary_of(folder_.path());
  ASSERT_EQ(summary.arms.size(), 3u);
  EXPECT_EQ(summary.arms[0].label, "none");
  EXPECT_EQ(summary.arms[2].label, "full");
  EXPECT_EQ(arm_named(summary, "none").verdict, Verdict::higher);
  EXPECT_EQ(arm_named(summary, "16").verdict, Verdict::no_difference);
  const auto& difference = arm_named(summary, "none").loss_difference;
  EXPECT_EQ(difference.pairs, 3);
  EXPECT_NEAR(difference.mean, 0.5, 1e-12);
  EXPECT_TRUE(summary.differing.empty());
}

TEST_F(ShellSweep, TablesReportAndTrajectories) {
  collect(folder_.path());
  for (const char* name : {"sweep.csv", "timing.csv", "arms.csv", "lengths.csv", "positions.csv", "retrieval.csv",
                           "attention.csv", "memory.csv", "report.md", "run_16_2/trajectory.csv", "plots/loss.gp"}) {
    EXPECT_TRUE(fs::exists(folder_ / name)) << name;
  }
  const auto rows = rows_of(read_text(folder_ / "sweep.csv"));
  ASSERT_EQ(rows.size(), 10u);
  EXPECT_EQ(rows[0][0], "schema_version");
  EXPECT_EQ(rows[1][1], "run_none_1");
  EXPECT_FALSE(contains(read_text(folder_ / "sweep.csv"), folder_.path().string())) << "no absolute paths";
  EXPECT_EQ(
      read_text(folder_ / "run_16_2/trajectory.csv"),
      "step,tokens,train_loss,val_loss,val_bpb,grad_norm,spike\n1,8192,6.0,4.02,2.01,0.5,0\n2,16384,3.02,3.02,1.51,0.5,0\n");
  const auto report = read_text(folder_ / "report.md");
  EXPECT_TRUE(contains(report, "| none | 0 of 64 | 3 | 3.5200 ± 0.0100 |")) << report;
  EXPECT_TRUE(contains(report, "| +0.5000 [+0.5000, +0.5000] | 3 | +50.0 | higher |"));
  EXPECT_TRUE(contains(report, "no difference"));
  EXPECT_TRUE(contains(report, "Every finished run was trained on 16,384 tokens.")) << report;
  const std::string before = read_text(folder_ / "sweep.csv");
  collect(folder_.path());
  EXPECT_EQ(read_text(folder_ / "sweep.csv"), before);
}

TEST_F(ShellSweep, TimesStayOutOfTheTableOfResults) {
  const auto before = sweep_table(summary_of(folder_.path())).csv();
  std::string metrics = read_text(folder_ / "run_16_2/metrics.jsonl");
  metrics.replace(metrics.find("\"train_time_ms\":100"), 19, "\"train_time_ms\":777");
  write_file(folder_ / "run_16_2/metrics.jsonl", metrics);
  EXPECT_EQ(sweep_table(summary_of(folder_.path())).csv(), before);
}

TEST_F(ShellSweep, UnfinishedRunsAreListedAndLeftOut) {
  write_run(folder_ / "run_16_4", "ROPE_DIMS=16\nSEED=4\n", 9.0, /*finished=*/false);
  const auto summary = summary_of(folder_.path());
  const Arm& arm = arm_named(summary, "16");
  EXPECT_EQ(arm.unfinished, 1);
  EXPECT_EQ(arm.counted.size(), 3u);
  EXPECT_TRUE(contains(report_text(summary, {}, {}, {}), "run_16_4: unfinished, 2 steps"));
}

TEST_F(ShellSweep, RepeatedRunsCountOnce) {
  write_run(folder_ / "run_16_again", "ROPE_FRACTION=0.25\nSEED=2\n", 9.0);
  const auto summary = summary_of(folder_.path());
  EXPECT_EQ(arm_named(summary, "16").counted.size(), 3u);
  EXPECT_TRUE(contains(report_text(summary, {}, {}, {}), "run_16_again: has the same settings and seed as another run"));
}

TEST_F(ShellSweep, DivergedRunsAreCountedAndLeftOut) {
  add("none", 4, 7.0);  // ln 1024 = 6.93
  const auto summary = summary_of(folder_.path());
  EXPECT_EQ(arm_named(summary, "none").diverged, 1);
  EXPECT_EQ(arm_named(summary, "none").counted.size(), 3u);
}

TEST_F(ShellSweep, ARunThatStoppedAtANonFiniteValueDiverged) {
  write_run(folder_ / "run_none_4", "ROPE_DIMS=none\nSEED=4\n", 3.0, /*finished=*/false);
  const SweepFolder sweep{folder_.path()};
  sweep.create();
  note_exit(sweep, "run_none_4", static_cast<int>(ExitCode::non_finite));
  const auto summary = summary_of(folder_.path());
  EXPECT_EQ(arm_named(summary, "none").diverged, 1);
  EXPECT_EQ(arm_named(summary, "none").unfinished, 0);
  EXPECT_TRUE(contains(report_text(summary, {}, {}, {}), "run_none_4: diverged, exit code 5, 2 steps"));
}

TEST_F(ShellSweep, UnequalNumbersOfTokensAreReported) {
  const fs::path metrics = folder_ / "run_16_2/metrics.jsonl";
  write_file(metrics, train_line(1, 3) + val_line(1, 3) + kFinalLine);
  EXPECT_TRUE(contains(report_text(summary_of(folder_.path()), {}, {}, {}), "unequal numbers of tokens, 8,192 to 16,384"));
}

TEST_F(ShellSweep, EveryFamilyHasItsOwnBaseline) {
  for (int seed = 1; seed <= 2; ++seed) {
    const auto folder = [&](const char* name) { return folder_ / format("q_%s_%d", name, seed); };
    write_run(folder("full"), format("QK_NORM=0\nSEED=%d\n", seed), 5 + 0.001 * seed);
    write_run(folder("6"), format("QK_NORM=0\nROPE_DIMS=6\nSEED=%d\n", seed), 5.001 + 0.001 * seed);
    write_run(folder("lone"), format("QK_NORM=0\nROPE_DIMS=6\nROPE_BASE=500\nSEED=%d\n", seed), 5);
  }
  const auto summary = summary_of(folder_.path());
  const Arm& arm = arm_named(summary, "6 QK_NORM=0");
  ASSERT_TRUE(arm.baseline);
  EXPECT_EQ(summary.arms[*arm.baseline].label, "full QK_NORM=0");
  EXPECT_NEAR(arm.loss_difference.mean, 0.001, 1e-9);
  EXPECT_TRUE(arm_named(summary, "full QK_NORM=0").is_baseline);
  EXPECT_FALSE(arm_named(summary, "full QK_NORM=0").baseline);
  const Arm& lone = arm_named(summary, "6 QK_NORM=0 ROPE_BASE=500.0");
  ASSERT_TRUE(lone.baseline);
  EXPECT_EQ(summary.arms[*lone.baseline].label, "full QK_NORM=0") << "nearest in the other settings";
  EXPECT_EQ(lone.settings_from_baseline, 1);
  EXPECT_NEAR(lone.loss_difference.mean, -0.0015, 1e-9);
}

TEST_F(ShellSweep, AFullArmThatDiffersInOtherSettingsIsComparedAndMarked) {
  for (int seed = 1; seed <= 3; ++seed)
    write_run(folder_ / format("dropped_%d", seed), format("ROPE_DROP_AT=0.7\nSEED=%d\n", seed), 3.25 + 0.01 * seed);
  const auto summary = summary_of(folder_.path());
  const Arm& dropped = arm_named(summary, "full ROPE_DROP_AT=0.7");
  EXPECT_FALSE(dropped.is_baseline);
  EXPECT_NEAR(dropped.loss_difference.mean, 0.25, 1e-9);
  const auto report = report_text(summary, {}, {}, {});
  EXPECT_TRUE(contains(report, "| higher\\* |")) << report;
  EXPECT_TRUE(contains(report, "whose other settings are nearest")) << report;
  ASSERT_TRUE(dropped.baseline);
  EXPECT_EQ(summary.arms[*dropped.baseline].label, "full");
}

TEST(Collect, WithoutPartnersTheFirstFullArmIsTheBaseline) {
  TempFolder folder;
  write_run(folder / "a", "QK_NORM=0\n", 3);
  write_run(folder / "b", "QK_NORM=1\n", 3);
  write_run(folder / "c", "ROPE_DIMS=16\nROPE_BASE=500\nQK_NORM=1\n", 3);
  const auto summary = summary_of(folder.path());
  ASSERT_EQ(summary.arms.size(), 3u);
  EXPECT_EQ(std::count_if(summary.arms.begin(), summary.arms.end(), [](const Arm& arm) { return arm.is_baseline; }), 1);
}

TEST(Collect, WithoutAFullArmThereIsNoBaseline) {
  TempFolder folder;
  write_run(folder / "a", "ROPE_DIMS=16\n", 3);
  const auto summary = summary_of(folder.path());
  EXPECT_FALSE(summary.arms[0].baseline);
  EXPECT_TRUE(contains(report_text(summary, {}, {}, {}), "no full arm"));
}

TEST(Collect, LayerSchedulesAndSelections) {
  TempFolder folder;
  write_run(folder / "a", "ROPE_LAYERS=full*3,none\n", 3);
  write_run(folder / "b", "ROPE_DIMS=16\nROPE_SELECT=high\n", 3);
  write_run(folder / "c", "ROPE_DIMS=full\nROPE_SELECT=high\n", 3);
  const auto summary = summary_of(folder.path());
  EXPECT_DOUBLE_EQ(arm_named(summary, "full*3,none").mean_rope_dims, 48);
  EXPECT_FALSE(arm_named(summary, "full*3,none").plain);
  EXPECT_TRUE(arm_named(summary, "16 high").baseline);
  EXPECT_TRUE(arm_named(summary, "full").full);
}

TEST_F(ShellSweep, OtherSeedsOfTheBaselineDoNotMoveAVerdict) {
  add("full", 4, 3.6);  // would put even "none" into the range of full's seeds
  const auto summary = summary_of(folder_.path());
  EXPECT_EQ(arm_named(summary, "none").verdict, Verdict::higher);
  EXPECT_EQ(arm_named(summary, "none").loss_difference.pairs, 3);
}

TEST(Collect, TheUntrainedModelIsNotAmongTheLastValidations) {
  TempFolder folder;
  fs::create_directories(folder / "a");
  write_file(folder / "a/config.env", config_text("ROPE_DIMS=full\n"));
  write_file(folder / "a/metrics.jsonl", "{\"kind\":\"run\",\"run_id\":\"x\"}\n" + val_line(0, 6.9) + train_line(1, 6) +
                                             train_line(2, 3) + val_line(2, 3) + kFinalLine);
  EXPECT_EQ(summary_of(folder.path()).runs.at(0).facts.last_k_val_loss, 3);
}

TEST(Collect, OneSeedDecidesNothing) {
  TempFolder folder;
  write_run(folder / "a", "ROPE_DIMS=16\n", 3);
  write_run(folder / "b", "ROPE_DIMS=full\n", 4);
  EXPECT_EQ(arm_named(summary_of(folder.path()), "16").verdict, Verdict::not_decided);
}

TEST(Collect, DamagedFiles) {
  TempFolder folder;
  expect_error(ExitCode::bad_input, {"no runs in or below", folder.path().string()}, [&] { collect(folder.path()); });
  expect_error(ExitCode::bad_input, {"no such folder"}, [&] { collect(folder / "absent"); });
  write_run(folder / "cut", "ROPE_DIMS=16\n", 3, /*finished=*/false);
  write_file(folder / "cut/metrics.jsonl", read_text(folder / "cut/metrics.jsonl") + "{\"kind\":\"tra");
  EXPECT_TRUE(read_run(folder.path(), "cut").problems.empty());
  EXPECT_EQ(read_run(folder.path(), "cut").train.size(), 2u);

  write_run(folder / "bad", "ROPE_DIMS=16\n", 3);
  write_file(folder / "bad/metrics.jsonl", "[1]\n{\"kind\":\"val\",\"step\":\"x\"}\n\n" + val_line(1, 3) + kFinalLine);
  const auto bad = read_run(folder.path(), "bad");
  ASSERT_EQ(bad.problems.size(), 2u);
  EXPECT_TRUE(contains(bad.problems[0], "metrics.jsonl:1"));
  EXPECT_TRUE(contains(bad.problems[1], "no number for step"));
  EXPECT_EQ(bad.val.size(), 1u);

  write_run(folder / "other", "NO_SUCH_OPTION=16\n", 3);
  collect(folder.path());
  EXPECT_TRUE(contains(read_text(folder / "report.md"), "other was left out: "));
}

TEST(Collect, Measurements) {
  TempFolder folder;
  write_run(folder / "r", "ROPE_DIMS=16\nSEED=1\n", 3);
  write_file(
      folder / "r/measures.jsonl",
      "{\"kind\":\"measures\",\"version\":1}\n"
      "{\"kind\":\"length\",\"seq_len\":256,\"tokens\":512,\"val_loss\":3.5,\"val_bpb\":1.5,\"stderr_loss\":0.1,"
      "\"last_bucket_loss\":3.6,\"rope_table_bytes\":100,\"rope_table_bytes_computed\":101,\"kv_cache_bytes\":102}\n"
      "{\"kind\":\"length\",\"seq_len\":128,\"val_loss\":3.25}\n"
      "{\"kind\":\"position\",\"seq_len\":128,\"from\":64,\"to\":128,\"loss\":3.125,\"tokens\":9}\n"
      "{\"kind\":\"retrieval\",\"task\":\"passkey\",\"seq_len\":128,\"distance\":32,\"items\":40,\"accuracy\":0.5,\"stderr\":0."
      "08,"
      "\"loss\":2}\n"
      "{\"kind\":\"attention\",\"layer\":1,\"head\":0,\"distance\":5.5,\"entropy\":1.5,\"first_token\":0.25,\"previous_token\":"
      "0.75}\n"
      "{\"kind\":\"logit_share\",\"layer\":1,\"head\":0,\"rotated\":0.625}\n"
      "{\"kind\":\"relative_shift\",\"shift\":7,\"max_change\":1e-05,\"max_logit\":3}\n"
      "{\"kind\":\"relative_shift\",\"shift\":9,\"max_change\":1e-06,\"max_logit\":3}\n");
  const auto summary = summary_of(folder.path());
  const auto rows = rows_of(sweep_table(summary).csv());
  ASSERT_EQ(rows.size(), 3u);
  const auto column = [&](const std::string& name) { return static_cast<size_t>(sweep_table(summary).column(name)) - 1; };
  EXPECT_EQ(rows[1][column("eval_seq_len")], "128");
  EXPECT_EQ(rows[2][column("length_val_loss")], "3.5");
  EXPECT_EQ(rows[2][column("table_bytes")], "100");
  EXPECT_EQ(rows[2][column("shift_max_change")], "1e-05");
  EXPECT_EQ(rows[1][column("final_val_loss")], "3.0");
  EXPECT_EQ(rows[1][column("last_k_val_loss")], "3.5");
  EXPECT_EQ(rows[1][column("max_grad_norm")], "0.5");
  EXPECT_EQ(rows[1][column("rope_dims")], "16");
  EXPECT_EQ(rows[1][column("fraction")], "0.25");
  EXPECT_TRUE(contains(positions_table(summary).csv(), "r,16,0,1,16,,16.0,1,128,64,128,3.125,9\n"));
  EXPECT_TRUE(contains(retrieval_table(summary).csv(), "passkey,128,32,40,0.5,0.08,2.0\n"));
  EXPECT_TRUE(contains(attention_table(summary).csv(), "1,0,5.5,1.5,0.25,0.75,0.625\n"));
}

TEST(Collect, AScriptForEveryPlotThatHasData) {
  TempFolder folder;
  write_run(folder / "r", "ROPE_DIMS=16\n", 3, /*finished=*/false);
  write_file(folder / "r/measures.jsonl",
             "{\"kind\":\"position\",\"seq_len\":128,\"from\":64,\"to\":128,\"loss\":3,\"tokens\":9}\n"
             "{\"kind\":\"length\",\"seq_len\":128,\"val_loss\":3}\n");
  const auto names = [&] {
    std::vector<std::string> out;
    for (const auto& entry : plot_scripts(summary_of(folder.path()))) out.push_back(entry.first);
    return out;
  };
  EXPECT_EQ(names(), (std::vector<std::string>{"memory", "trajectory"})) << "nothing finished";
  write_file(folder / "r/metrics.jsonl", read_text(folder / "r/metrics.jsonl") + kFinalLine);
  EXPECT_EQ(names(), (std::vector<std::string>{"lengths", "lengths_last", "loss", "memory", "positions", "trajectory"}));
}

TEST(Collect, BytesOfTablesAndCache) {
  ModelConfig model;
  model.num_layers = 16;
  model.num_kv_heads = 8;
  model.num_heads = 32;
  model.model_dim = 2048;
  EXPECT_EQ(rope_table_bytes(model, 1024), 1024 * 256) << "2 tables of 32 float32";
  model.rope_dims = 6;
  EXPECT_EQ(rope_table_bytes(model, 1024), 1024 * 24);
  model.rope.select = RopeSelect::high;
  EXPECT_EQ(rope_table_bytes(model, 1024), 1024 * 256) << "keeps the pairs of the whole head";
  model.rope_dims = 0;
  EXPECT_EQ(rope_table_bytes(model, 1024), 0);
  EXPECT_EQ(kv_cache_bytes(model, 1024), 32 * 1024 * 1024);
}

}  // namespace
}  // namespace pgolf::testing
