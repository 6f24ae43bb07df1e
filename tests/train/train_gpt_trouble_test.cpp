// train_gpt in trouble from outside: signals while it scores, a terminal that goes away, a disk that takes nothing.
#include "support/training.h"

namespace pgolf::testing {
namespace {

/// The tiny run, and a validation set that takes some seconds, in batches of one window each.
class TrainGptInTrouble : public ::testing::Test {
 protected:
  Variables variables(const Variables& changes = {}) const {
    Variables all = tiny_variables({{"OUT_DIR", (folder_ / "runs").string()}, {"RUN_ID", "run"}});
    for (const auto& [name, value] : changes) all[name] = value;
    return all;
  }
  /// copies of the validation shard's tokens, every one scored.
  Variables long_validation(int copies, const Variables& changes = {}) const {
    const fs::path data = folder_ / "data";
    fs::copy(Dataset::get().data_path(), data);
    const Shard shard(fs::path(Dataset::get().data_path()) / "fineweb_val_000000.bin");
    ShardWriter writer(data / "fineweb_val_000000.bin");
    for (int i = 0; i < copies; ++i) writer.append(shard.tokens());
    writer.commit();
    fs::remove(data / "shards.json");
    Variables all = variables({{"DATA_PATH", data.string()}, {"EVAL_TOKENS", "0"}, {"VAL_BATCH_SIZE", "128"}});
    for (const auto& [name, value] : changes) all[name] = value;
    return all;
  }
  RunFolder run() const { return {folder_ / "runs/run"}; }
  std::string log() const { return fs::exists(run().log()) ? read_text(run().log()) : ""; }

  TempFolder folder_;
};

TEST_F(TrainGptInTrouble, ASignalEndsAValidationAndSaves) {
  const Variables settings = long_validation(20000, {{"VAL_LOSS_EVERY", "2"}, {"ITERATIONS", "2"}});  // longer than anyone waits
  for (const int number : {SIGTERM, SIGHUP}) {
    Program program("train_gpt", {}, settings);
    ASSERT_TRUE(program.wait_for([&] { return contains(log(), "rope_dims:"); }));
    program.signal(number);
    const auto ended = program.wait();
    EXPECT_EQ(ended.code, 130) << ended.err;
    EXPECT_TRUE(contains(log(), format("interrupted: signal:%d step:0", number))) << log();
    EXPECT_EQ(count_kind(read_metrics(run().metrics()), "val"), 0);
    EXPECT_EQ(load_newest_checkpoint(run().checkpoints())->state.step, 0);
    fs::remove_all(run().path);
  }
}

TEST_F(TrainGptInTrouble, ASignalWhileTheArtifactIsScoredKeepsTheFiles) {
  for (const std::string stride : {"0", "1"}) {
    Program program("train_gpt", {}, long_validation(30, {{"ITERATIONS", "0"}, {"EVAL_STRIDE", stride}}));
    const std::string scored = stride == "0" ? "budget: " : "_roundtrip_exact ";
    ASSERT_TRUE(program.wait_for([&] { return contains(log(), scored); }));
    program.signal(SIGINT);
    const auto ended = program.wait();
    EXPECT_EQ(ended.code, 130) << ended.err;
    EXPECT_TRUE(contains(ended.err, "scoring ended early") && contains(ended.err, "eval_gpt score " + run().artifact().string()))
        << ended.err;
    EXPECT_TRUE(fs::exists(run().artifact()) && fs::exists(run().model()));
    EXPECT_EQ(count_kind(read_metrics(run().metrics()), "final"), stride == "0" ? 0 : 1);
    EXPECT_EQ(count_kind(read_metrics(run().metrics()), "score"), 0);
    for (const char* made : {"data", "runs"}) fs::remove_all(folder_ / made);
  }
}

TEST_F(TrainGptInTrouble, ALostTerminalEndsNoRun) {
  const std::string err = (folder_ / "err").string();
  const auto train = [&](const std::string& words, const Variables& settings) {
    std::string command = "env -i OMP_NUM_THREADS=1";
    for (const auto& [name, value] : settings) command += " " + name + "='" + value + "'";
    write_file(folder_ / "call.sh", "set -o pipefail\n" + command + " '" + (fs::path(PGOLF_BIN_DIR) / "train_gpt").string() +
                                        "' " + "2> '" + err + "' " + words);
    const int status = std::system(("bash '" + (folder_ / "call.sh").string() + "'").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  for (const std::string output : {"> /dev/full", "| true", ">&-"}) {
    EXPECT_EQ(train(output, variables({{"ITERATIONS", "20"}})), 0) << output << read_text(err);
    EXPECT_TRUE(contains(log(), "_roundtrip_exact ")) << output;
    EXPECT_EQ(contains(read_text(err), "standard output did not take all lines"), output != ">&-") << output << read_text(err);
    fs::remove_all(run().path);
  }
  EXPECT_EQ(train("--help > /dev/full", {}), 6);
  EXPECT_EQ(read_text(err), "error: standard output did not take everything that was printed\n");
}

TEST_F(TrainGptInTrouble, AnUnusableFallbackIsFoundBeforeTraining) {
  write_file(folder_ / "file", "x");
  for (const std::string& place : {(folder_ / "file").string(), (folder_ / "file/below").string()}) {
    const auto result = run_program("train_gpt", {}, variables({{"FALLBACK_DIR", place}}));
    EXPECT_EQ(result.code, 6) << place;
    EXPECT_TRUE(contains(result.err, "FALLBACK_DIR=" + place)) << result.err;
    EXPECT_FALSE(fs::exists(run().path));
  }
  const auto result = run_program("train_gpt", {}, variables({{"FALLBACK_DIR", (folder_ / "new/one").string()}}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_FALSE(fs::exists(folder_ / "new")) << "made only when needed";
}

TEST_F(TrainGptInTrouble, AnArtifactWithoutAFiniteLossIsNoSuccess) {
  const auto result = run_program("train_gpt", {}, variables({{"ITERATIONS", "1"}, {"MATRIX_LR", "1e30"}}));
  EXPECT_EQ(result.code, 5) << result.err;
  EXPECT_TRUE(contains(result.err, "val_loss is ")) << result.err;
  EXPECT_TRUE(fs::exists(run().artifact()));
}

TEST_F(TrainGptInTrouble, TextThatIsNotUtf8IsNoOption) {
  for (const char* option : {"--sample-prompt", "--data-path", "--tokenizer-path", "--out-dir", "--fallback-dir", "--run-id",
                             "--control-tensor-name-patterns"}) {
    const auto result = run_program("train_gpt", {option, "caf\xe9"}, variables());
    EXPECT_EQ(result.code, 2) << option;
    EXPECT_TRUE(contains(result.err, "is not valid UTF-8")) << result.err;
  }
  for (const char* option : {"--qk-gain-init", "--matrix-lr"}) {
    const auto result = run_program("train_gpt", {option, "1e39"}, variables());
    EXPECT_EQ(result.code, 2) << option;
    EXPECT_TRUE(contains(result.err, "beyond the range of float32")) << result.err;
  }
}

}  // namespace
}  // namespace pgolf::testing
