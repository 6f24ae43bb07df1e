// train_gpt with all parts of the record programs, and every command of eval_gpt that reads its files, with a configuration or
// without.
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/model_writer.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

/// What a file without a configuration does not show.
const std::vector<std::string> kFlags{"--mlp-kind",
                                      "leaky_relu2",
                                      "--num-loops",
                                      "2",
                                      "--loop-start",
                                      "1",
                                      "--loop-end",
                                      "2",
                                      "--xsa-last-n",
                                      "4",
                                      "--ln-scale",
                                      "1",
                                      "--parallel-residual-start",
                                      "3",
                                      "--ve-layers",
                                      "0,3",
                                      "--train-seq-len",
                                      "16",
                                      "--rope-dims",
                                      "6"};
/// What it shows.
const std::vector<std::string> kShown{"--num-layers", "4", "--mlp-mult",          "1.5", "--skip-gates-enabled", "1",
                                      "--smear-gate", "1", "--bigram-vocab-size", "40",  "--bigram-dim",         "32",
                                      "--ve-dim",     "12"};

class EvalShapes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    auto flags = kFlags;
    flags.insert(flags.end(), kShown.begin(), kShown.end());
    flags.insert(flags.end(), {"--orthogonal-init", "1", "--init-std", "none"});
    trained_ = new ProgramResult(run_program(
        "train_gpt", flags, tiny_variables({{"OUT_DIR", folder_->path().string()}, {"RUN_ID", "run"}, {"SAVE_EVERY", "2"}})));
    ASSERT_EQ(trained_->code, 0) << trained_->err;
    const ModelFile file = read_model_file(run().model());
    write_model(silent(), file.state, file.stored.model, {});
  }
  static void TearDownTestSuite() {
    delete folder_;
    delete trained_;
  }

  static RunFolder run() { return {*folder_ / "run"}; }
  static fs::path silent() { return *folder_ / "silent.pt"; }

  /// On the run's model and on its weights alone, whose flags say the rest: the same output but for what is assumed.
  static std::pair<ProgramResult, ProgramResult> both(const std::string& command, std::vector<std::string> more) {
    more.insert(more.end(), {"--tokenizer-path", Dataset::get().tokenizer_path(), "--dtype", "float32", "--device", "cpu",
                             "--num-threads", "1"});
    auto stored = more, flagged = more;
    stored.insert(stored.begin(), {command, run().model().string()});
    flagged.insert(flagged.begin(), {command, silent().string()});
    flagged.insert(flagged.end(), kFlags.begin(), kFlags.end());
    auto results = std::pair(run_program("eval_gpt", stored), run_program("eval_gpt", flagged));
    EXPECT_EQ(results.first.code, 0) << results.first.err;
    EXPECT_EQ(results.second.code, 0) << results.second.err;
    return results;
  }

  static TempFolder* folder_;
  static ProgramResult* trained_;
};
TempFolder* EvalShapes::folder_ = nullptr;
ProgramResult* EvalShapes::trained_ = nullptr;

nlohmann::json first_line(const ProgramResult& result) {
  return nlohmann::json::parse(result.out.substr(0, result.out.find('\n')));
}

TEST_F(EvalShapes, TheRunNamesItsShape) {
  EXPECT_NE(trained_->out.find("SKIP_GATES_ENABLED=1 NUM_LOOPS=2 LOOP_START=1 LOOP_END=2 SMEAR_GATE=1"), std::string::npos)
      << trained_->out;
  const ModelConfig model = read_model_file(run().artifact()).stored.model;
  EXPECT_NE(trained_->out.find(format("model_params:%lld", static_cast<long long>(model.parameter_count()))), std::string::npos);
}

TEST_F(EvalShapes, ScoresAreTheRunsOwn) {
  const std::vector<std::string> more{"--val-files", Dataset::get().val_files(), "--eval-tokens", "512", "--format", "jsonl"};
  const auto [stored, flagged] = both("score", more);
  const double loss = first_line(stored).at("val_loss");
  double logged = 0;
  for (const auto& line : read_metrics(run().metrics())) {
    if (line.at("kind") == "val") logged = line.at("val_loss");
  }
  EXPECT_NEAR(loss, logged, 1e-6);
  EXPECT_EQ(first_line(flagged).at("val_loss").get<double>(), loss);
  const auto assumed = first_line(flagged).at("assumed").get<std::vector<std::string>>();
  for (const char* text : {"NUM_LOOPS=2", "LOOP_START=1", "LOOP_END=2", "XSA_LAST_N=4", "LN_SCALE=1", "VE_LAYERS=0,3",
                           "PARALLEL_RESIDUAL_START=3"}) {
    EXPECT_EQ(std::count(assumed.begin(), assumed.end(), text), 1) << text;
  }
  auto sliding = more;
  sliding.insert(sliding.end(), {"--eval-stride", "4"});
  const auto [slid, slid_flagged] = both("score", sliding);
  EXPECT_NE(first_line(slid).at("val_loss").get<double>(), loss);
  EXPECT_EQ(first_line(slid_flagged).at("val_loss"), first_line(slid).at("val_loss"));
}

TEST_F(EvalShapes, FlagsThatDoNotFitTheTensorsAreRefused) {
  const auto refused = [](const fs::path& model, std::vector<std::string> flags, int code, const std::string& part) {
    flags.insert(flags.begin(), {model.string(), "--val-files", Dataset::get().val_files(), "--tokenizer-path",
                                 Dataset::get().tokenizer_path()});
    const auto result = run_program("eval_gpt", flags);
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  };
  refused(silent(), {}, 3, "skip_weights has 4 rows, but 4 blocks with NUM_LOOPS=0 have 2 skip connections");
  refused(silent(), {"--num-loops", "1", "--loop-start", "1", "--loop-end", "2"}, 3, "with NUM_LOOPS=1 have 3 skip connections");
  refused(silent(), {"--num-loops", "2", "--loop-start", "1", "--loop-end", "4"}, 3, "a loop needs a first and a last block");
  refused(silent(), {"--num-loops", "2", "--loop-start", "1", "--loop-end", "2"}, 3,
          "2 blocks have value embeddings, VE_LAYERS lists 0");
  refused(run().model(), {"--num-loops", "1"}, 2, "was trained with NUM_LOOPS=2");
}

TEST_F(EvalShapes, TheCacheDoesNotChangeTheText) {
  const std::vector<std::string> kept{"--prompt", "the river", "--max-new-tokens", "40", "--num-samples", "2"};
  auto recomputed = kept;
  recomputed.insert(recomputed.end(), {"--kv-cache", "0"});
  const auto [stored, flagged] = both("generate", kept);
  EXPECT_EQ(stored.out, flagged.out);
  EXPECT_EQ(both("generate", recomputed).first.out, stored.out);
}

TEST_F(EvalShapes, MeasuresSeeEveryBlock) {
  const std::vector<std::string> more{
      "--val-files", Dataset::get().val_files(), "--eval-seq-lens", "1x", "--retrieval-items", "2", "--probe-windows", "2"};
  const auto [stored, flagged] = both("measure", more);
  std::vector<nlohmann::json> rows, flagged_rows;
  for (const auto& line : split(trim(stored.out), '\n')) rows.push_back(nlohmann::json::parse(line));
  for (const auto& line : split(trim(flagged.out), '\n')) flagged_rows.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(rows.size(), flagged_rows.size());
  for (size_t i = 1; i < rows.size(); ++i) EXPECT_EQ(rows[i], flagged_rows[i]);
  EXPECT_EQ(count_kind(rows, "attention"), 4 * 2);
  for (const auto& row : rows) {
    if (row.at("kind") != "attention") continue;
    EXPECT_LE(row.at("entropy").get<double>(), std::log(16.0)) << "a mean, not a sum over passes";
    EXPECT_GT(row.at("entropy").get<double>(), 0);
  }
}

TEST_F(EvalShapes, InspectExportAndCompare) {
  const auto inspected = run_program("eval_gpt", {"inspect", run().artifact().string()});
  EXPECT_EQ(inspected.code, 0) << inspected.err;
  EXPECT_NE(inspected.out.find("4 layers (1 to 2 run 3 times) of width 32"), std::string::npos) << inspected.out;
  const auto unknown = run_program("eval_gpt", {"inspect", silent().string()});
  EXPECT_EQ(unknown.code, 0) << unknown.err;
  EXPECT_NE(unknown.out.find("not usable: "), std::string::npos) << unknown.out;
  EXPECT_NE(unknown.out.find("ve_layer_scales.1"), std::string::npos) << unknown.out;

  const fs::path again = *folder_ / "again.pt";
  std::vector<std::string> arguments{"export", silent().string(), "--output", again.string(), "--store-assumed", "true"};
  arguments.insert(arguments.end(), kFlags.begin(), kFlags.end());
  const auto exported = run_program("eval_gpt", arguments);
  ASSERT_EQ(exported.code, 0) << exported.err;
  auto expected = read_model_file(run().model()).metadata;
  expected.erase("TOKENIZER");
  EXPECT_EQ(read_model_file(again).metadata, expected);
  const auto compared =
      run_program("eval_gpt", {"compare", run().model().string(), again.string(), "--val-files", Dataset::get().val_files(),
                               "--tokenizer-path", Dataset::get().tokenizer_path(), "--eval-tokens", "160", "--format", "jsonl"});
  ASSERT_EQ(compared.code, 0) << compared.err;
  EXPECT_EQ(first_line(compared).at("difference").get<double>(), 0);
}

}  // namespace
}  // namespace pgolf::testing
