// The program eval_gpt on the files of a run.
#include "pgolf/artifact/tensors.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/eval/model_file.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

class EvalGpt : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto trained =
        run_program("train_gpt", {"--rope-dims", "6"},
                    tiny_variables({{"OUT_DIR", folder_.path().string()}, {"RUN_ID", "run"}, {"SAVE_EVERY", "2"}}));
    ASSERT_EQ(trained.code, 0) << trained.err;
    metrics_ = read_metrics(run_.metrics());
  }
  ProgramResult score(std::vector<std::string> arguments) const {
    // Batches of four windows, as the run's validation had them.
    arguments.insert(arguments.end(),
                     {"--val-files", Dataset::get().val_files(), "--tokenizer-path", Dataset::get().tokenizer_path(), "--dtype",
                      "float32", "--device", "cpu", "--num-threads", "1", "--val-batch-size", "64"});
    return run_program("eval_gpt", arguments);
  }
  double loss_of(const char* kind) const {
    double loss = 0;
    for (const auto& line : metrics_) {
      if (line.at("kind") == kind) loss = line.at("val_loss");
    }
    return loss;
  }

  TempFolder folder_;
  RunFolder run_{folder_ / "run"};
  std::vector<nlohmann::json> metrics_;
};

TEST_F(EvalGpt, JsonLinesHaveTheRunsNumbers) {
  const auto checkpoint = list_checkpoints(run_.checkpoints()).back();
  const auto result = score({run_.path.string(), run_.artifact().string(), run_.model().string(), checkpoint.string(),
                             "--eval-tokens", "512", "--format", "jsonl"});
  ASSERT_EQ(result.code, 0) << result.err;
  std::vector<nlohmann::json> lines;
  for (const auto& line : split(trim(result.out), '\n')) lines.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(lines.size(), 4u);
  const char* formats[] = {"int8+zlib", "int8+zlib", "torch", "training checkpoint"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(lines[i].at("format"), formats[i]);
    EXPECT_EQ(lines[i].at("tokens"), 512);
    EXPECT_EQ(lines[i].at("seq_len"), 16);
    EXPECT_EQ(lines[i].at("rope_dims"), 6);
    EXPECT_TRUE(lines[i].at("assumed").empty());
    EXPECT_DOUBLE_EQ(lines[i].at("val_loss").get<double>(), loss_of(i < 2 ? "final" : "val")) << formats[i];
    EXPECT_NEAR(lines[i].at("val_bpb").get<double>(),
                lines[i].at("val_loss").get<double>() / std::log(2.0) * 512 / lines[i].at("bytes").get<double>(), 1e-9);
  }
}

TEST_F(EvalGpt, TextLinesHaveTheRunsNumbers) {
  const auto result = score({"score", run_.artifact().string(), "--eval-tokens", "512"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out.rfind(run_.artifact().string() + " val_loss:" + format("%.8f", loss_of("final")) + " val_bpb:", 0), 0u)
      << result.out;
  for (const char* part : {" tokens:512 ", " bytes:", " seq_len:16 ", " rope_dims:6 ", " format:int8+zlib "})
    EXPECT_NE(result.out.find(part), std::string::npos) << result.out;
  const auto longer = score({run_.artifact().string(), "--eval-seq-len", "48"});
  ASSERT_EQ(longer.code, 0) << longer.err;
  EXPECT_NE(longer.out.find(" seq_len:48 "), std::string::npos) << longer.out;
}

TEST_F(EvalGpt, OneBadFileDoesNotHideTheOthers) {
  write_file(folder_ / "bad.pt", "no model");
  const auto result =
      score({run_.model().string(), (folder_ / "bad.pt").string(), run_.artifact().string(), "--format", "jsonl"});
  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(split(trim(result.out), '\n').size(), 2u) << result.out;
  EXPECT_NE(result.err.find("bad.pt"), std::string::npos) << result.err;
  const auto alone = score({(folder_ / "bad.pt").string()});
  EXPECT_EQ(alone.code, 3);
  EXPECT_EQ(alone.err.rfind("error: ", 0), 0u) << alone.err;
  EXPECT_EQ(alone.out, "");
}

TEST_F(EvalGpt, FlagsSayWhatAPythonFileDoesNot) {
  const ModelFile ours = read_model_file(run_.model());
  NamedTensors tensors;
  for (const auto& [name, tensor] : ours.state) tensors.emplace_back(name, to_raw(tensor));
  const std::string silent = (folder_ / "silent.pt").string();
  write_atomic(silent, save_torch(state_dict_value(tensors, python_module_paths(ours.stored.model), {}), "silent"));
  const auto loss_with = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments{silent, "--eval-seq-len", "16", "--eval-tokens", "512", "--format", "jsonl"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const auto result = score(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return nlohmann::json::parse(result.out);
  };
  const auto right = loss_with({"--rope-dims", "6"}), assumed = loss_with({});
  EXPECT_DOUBLE_EQ(right.at("val_loss").get<double>(), loss_of("val"));
  EXPECT_EQ(right.at("rope_dims"), 6);
  EXPECT_NE(assumed.at("val_loss").get<double>(), loss_of("val"));
  EXPECT_EQ(assumed.at("rope_dims"), 16) << "the whole head";
  const auto other_kind = loss_with({"--rope-dims", "6", "--mlp-kind", "gelu", "--qk-norm", "off"});
  EXPECT_NE(other_kind.at("val_loss").get<double>(), loss_of("val"));
  const auto has = [&](const std::string& text) { return other_kind.at("assumed").dump().find(text) != std::string::npos; };
  EXPECT_TRUE(has("\"MLP_KIND=gelu\"") && has("\"QK_NORM=0\"") && has("\"ROPE_DIMS=6\"")) << other_kind;
  EXPECT_NE(score({silent, "--mlp-leaky-slope", "0.1"}).err.find("this kind has no slope"), std::string::npos);
  const auto contradiction = score({run_.model().string(), "--rope-dims", "4"});
  EXPECT_EQ(contradiction.code, 2);
  EXPECT_NE(contradiction.err.find("ROPE_DIMS=6"), std::string::npos) << contradiction.err;
  EXPECT_NE(score({run_.model().string(), "--mlp-kind", "gelu"}).err.find("trained with MLP_KIND=relu2"), std::string::npos);
}

TEST_F(EvalGpt, MistakesAreNamed) {
  const auto expect_mistake = [](const ProgramResult& result, int code, const std::string& part) {
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_EQ(result.err.rfind("error: ", 0), 0u) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  };
  expect_mistake(score({}), 2, "no checkpoint");
  expect_mistake(score({(folder_ / "missing.pt").string()}), 3, "missing.pt");
  expect_mistake(run_program("eval_gpt", {run_.model().string(), "--tokenizer-path", Dataset::get().tokenizer_path()}), 2,
                 "val-files");
  expect_mistake(run_program("eval_gpt", {run_.model().string(), "--val-files", (folder_ / "no*").string(), "--tokenizer-path",
                                          Dataset::get().tokenizer_path()}),
                 3, "no*");
  expect_mistake(run_program("eval_gpt", {"generate", "--prompt", "the river"}), 2, "checkpoint");
}

TEST_F(EvalGpt, GeneratesTheSameTextForTheSameSeed) {
  const std::vector<std::string> arguments{"generate",         run_.path.string(),
                                           "--prompt",         "the river",
                                           "--tokenizer-path", Dataset::get().tokenizer_path(),
                                           "--max-new-tokens", "8",
                                           "--num-samples",    "2",
                                           "--seed",           "3",
                                           "--dtype",          "float32"};
  const auto first = run_program("eval_gpt", arguments), again = run_program("eval_gpt", arguments);
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.out.rfind("[3] the river", 0), 0u) << first.out;
  EXPECT_NE(first.out.find("\n[4] the river"), std::string::npos) << first.out;
  EXPECT_EQ(first.out, again.out);
}

}  // namespace
}  // namespace pgolf::testing
