// The program eval_gpt on the files of a run.
#include "pgolf/artifact/torch_file.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/tensors.h"
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
    // Batches of four windows, as in the run's validation.
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

TEST_F(EvalGpt, HasTheScoresOfOverlappingWindowsThatTheRunLogged) {
  const RunFolder run{folder_ / "scored"};
  const auto trained = run_program("train_gpt", {},
                                   tiny_variables({{"OUT_DIR", folder_.path().string()},
                                                   {"RUN_ID", "scored"},
                                                   {"EVAL_STRIDE", "4"},
                                                   {"TTT_ENABLED", "1"},
                                                   {"TTT_LR", "0.1"},
                                                   {"TTT_CHUNK_TOKENS", "100"}}));
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_NE(trained.out.find("ttt:start chunks:6 ttt_lr:0.1 ttt_epochs:3\n"), std::string::npos) << trained.out;
  std::map<std::string, nlohmann::json> scores;
  for (const auto& line : read_metrics(run.metrics())) {
    if (line.at("kind") == "score") scores[line.at("name")] = line;
  }
  ASSERT_EQ(scores.size(), 2u);
  EXPECT_EQ(read_metrics(run.metrics()).back().at("kind"), "final");
  EXPECT_LT(scores.at("ttt").at("val_loss"), scores.at("sliding_window").at("val_loss")) << "it learns";
  const auto expect_score = [&](const char* name, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {run.path.string(), "--eval-tokens", "512", "--format", "jsonl", "--eval-stride", "4"});
    const auto result = score(arguments);
    ASSERT_EQ(result.code, 0) << result.err;
    const auto lines = split(trim(result.out), '\n');
    for (const auto& text : lines) {
      const auto line = nlohmann::json::parse(text);
      EXPECT_EQ(line.at("tokens"), 512);
      EXPECT_EQ(line.at("bytes"), scores.at(name).at("bytes"));
      EXPECT_NEAR(line.at("val_loss").get<double>(), scores.at(name).at("val_loss").get<double>(), 1e-6) << name;
    }
  };
  expect_score("sliding_window", {});
  // Each length begins with the stored weights.
  expect_score("ttt", {"--ttt-enabled", "--ttt-lr", "0.1", "--ttt-chunk-tokens", "100", "--eval-seq-len", "16,16"});
  EXPECT_EQ(score({run.path.string(), "--ttt-enabled"}).code, static_cast<int>(ExitCode::usage));
}

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
    // The run's own are means of batches rounded to float32, as upstream's are.
    EXPECT_NEAR(lines[i].at("val_loss").get<double>(), loss_of(i < 2 ? "final" : "val"), 1e-6) << formats[i];
    EXPECT_GT(lines[i].at("stderr_bpb").get<double>(), 0);
    EXPECT_EQ(lines[i].at("stride"), 16);
    EXPECT_EQ(lines[i].at("stream_sha256"), lines[0].at("stream_sha256"));
    EXPECT_EQ(lines[i].at("stream_sha256").get<std::string>().size(), 64u);
    EXPECT_NEAR(lines[i].at("val_bpb").get<double>(),
                lines[i].at("val_loss").get<double>() / std::log(2.0) * 512 / lines[i].at("bytes").get<double>(), 1e-9);
  }
}

TEST_F(EvalGpt, TextLinesHaveTheRunsNumbers) {
  const auto result = score({"score", run_.artifact().string(), "--eval-tokens", "512"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto lines = split(trim(result.out), '\n');
  ASSERT_EQ(lines.size(), 3u) << result.out;
  EXPECT_EQ(lines[0].rfind(run_.artifact().string() + " val_loss:" + format("%.4f", loss_of("final")) + " val_bpb:", 0), 0u);
  EXPECT_EQ(lines[1].rfind(run_.artifact().string() + "_exact val_loss:" + format("%.6f", loss_of("final")).substr(0, 7), 0), 0u);
  for (const char* part : {" tokens:512 ", " bytes:", " seq_len:16 ", " stride:16 ", " rope_dims:6 ", " format:int8+zlib ",
                           " split:unknown ", " stream_sha256:"})
    EXPECT_NE(lines[2].find(part), std::string::npos) << result.out;
}

TEST_F(EvalGpt, DataAndTokenizerMayBeInTheEnvironment) {
  const Variables here{{"DATA_PATH", Dataset::get().data_path()}, {"TOKENIZER_PATH", Dataset::get().tokenizer_path()}};
  const Variables elsewhere{{"DATA_PATH", "/nowhere"}, {"TOKENIZER_PATH", "/nowhere"}};
  const auto score_of = [&](std::vector<std::string> words, const Variables& environment) {
    words.insert(words.end(), {"--format", "jsonl", "--dtype", "float32", "--num-threads", "1"});
    const auto result = run_program("eval_gpt", words, environment);
    EXPECT_EQ(result.code, 0) << result.err;
    return nlohmann::json::parse(result.out).at("val_loss").get<double>();
  };
  const std::string model = run_.model().string();
  const double loss = score_of({model, "--data-path", here.at("DATA_PATH"), "--tokenizer-path", here.at("TOKENIZER_PATH")}, {});
  EXPECT_EQ(score_of({model}, here), loss);
  EXPECT_EQ(
      score_of({model, "--val-files", Dataset::get().val_files(), "--tokenizer-path", here.at("TOKENIZER_PATH")}, elsewhere),
      loss)
      << "flags win";
  EXPECT_EQ(run_program("eval_gpt", {model}, elsewhere).code, 3);
}

TEST_F(EvalGpt, DataAndTokenizerOfTheRunAreTheDefault) {
  const std::vector<std::string> options{"--dtype", "float32", "--num-threads", "1"};
  const auto run_with = [&](std::vector<std::string> words, const Variables& environment = {}) {
    words.insert(words.end(), options.begin(), options.end());
    return run_program("eval_gpt", words, environment);
  };
  const std::string given = score({run_.path.string(), "--format", "csv"}).out;
  EXPECT_EQ(run_with({run_.path.string(), "--format", "csv", "--val-batch-size", "64"}).out.substr(0, 40), given.substr(0, 40));
  for (const auto& model : {run_.path, run_.model(), list_checkpoints(run_.checkpoints()).back()})
    EXPECT_EQ(run_with({"generate", model.string(), "--prompt", "the river"}).code, 0) << model;

  const auto expect_missing = [](const ProgramResult& result, const std::string& what) {
    EXPECT_EQ(result.code, 3) << result.out << result.err;
    EXPECT_NE(result.err.find(what), std::string::npos) << result.err;
  };
  expect_missing(run_with({run_.path.string()}, {{"DATA_PATH", "/nowhere"}}), "/nowhere");
  expect_missing(run_with({run_.path.string()}, {{"TOKENIZER_PATH", "/nowhere"}}), "/nowhere");
  const std::string config = read_text(run_.config());
  for (const std::string name : {"DATA_PATH=", "TOKENIZER_PATH="}) {
    std::string moved = config;
    write_file(run_.config(), moved.insert(moved.find("\n" + name) + 1 + name.size(), "/moved"));
    expect_missing(run_with({run_.path.string()}), name + "/moved");
  }
}

TEST_F(EvalGpt, LengthsAndCheckpointsMakeATable) {
  const auto result = score({run_.model().string(), run_.artifact().string(), "--eval-seq-len", "0,8,48", "--format", "csv",
                             "--by-position", "--output", (folder_ / "scores.csv").string()});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  const auto lines = split(trim(read_text(folder_ / "scores.csv")), '\n');
  ASSERT_EQ(lines.size(), 7u);
  EXPECT_EQ(
      lines[0].rfind("checkpoint,seq_len,stride,val_loss,val_bpb,stderr_bpb,tokens,bytes,rope_dims,tokens_per_s,loss to 1,", 0),
      0u);
  EXPECT_EQ(lines[2].rfind(run_.model().string() + ",8,8,", 0), 0u) << lines[2];
  const auto text = score({run_.model().string(), "--eval-seq-len", "8,16"});
  EXPECT_NE(text.out.find("\ncheckpoint"), std::string::npos) << "several results are followed by a table: " << text.out;
  const auto folder = run_program("eval_gpt", {run_.model().string(), "--data-path", Dataset::get().data_path(),
                                               "--tokenizer-path", Dataset::get().tokenizer_path(), "--format", "md"});
  EXPECT_EQ(folder.out.rfind("| checkpoint | seq_len |", 0), 0u) << folder.out << folder.err;
}

TEST_F(EvalGpt, AStrideScoresEveryTokenWithMoreContext) {
  const auto scored = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments{run_.model().string(), "--format", "jsonl"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const auto result = score(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return nlohmann::json::parse(result.out);
  };
  const auto separate = scored({}), sliding = scored({"--eval-stride", "4"});
  const int64_t all = static_cast<int64_t>(ValidationSet(Dataset::get().val_files(), 1).tokens().size()) - 1;
  EXPECT_EQ(sliding.at("tokens"), all);
  EXPECT_EQ(separate.at("tokens"), all / 16 * 16);
  EXPECT_NE(sliding.at("val_loss"), separate.at("val_loss"));
  EXPECT_EQ(scored({"--eval-stride", "4", "--eval-tokens", "7"}).at("tokens"), 7) << "less than a window";
}

TEST_F(EvalGpt, PositionsCanBeScaledForLongerWindows) {
  const auto loss_with = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments{run_.model().string(), "--eval-seq-len", "64", "--format", "jsonl"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const auto result = score(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err.find("--eval-rope-scaling") != std::string::npos, !flags.empty()) << result.err;
    return nlohmann::json::parse(result.out).at("val_loss").get<double>();
  };
  std::set<double> losses{loss_with({})};
  for (const char* scaling : {"linear", "ntk", "yarn"})
    losses.insert(loss_with({"--eval-rope-scaling", scaling, "--eval-rope-scaling-factor", "4"}));
  EXPECT_EQ(losses.size(), 4u) << "each is a different model";
  EXPECT_EQ(score({run_.model().string(), "--eval-rope-scaling", "yarn"}).code, 2);
  EXPECT_EQ(score({run_.model().string(), "--eval-rope-scaling-factor", "2"}).code, 2);
}

TEST_F(EvalGpt, DocumentsAreShownWithTheirText) {
  const auto result = score({run_.model().string(), "--by-document", "2"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("worst of "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("best:\n  bpb:"), std::string::npos) << result.out;
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

TEST_F(EvalGpt, WeightsThatAreNotFiniteAreAnErrorOfEveryCommand) {
  const ModelFile file = read_model_file(run_.model());
  NamedTensors tensors;
  for (const auto& [name, tensor] : file.state) {
    at::Tensor values = tensor.clone();
    if (name == "blocks.1.attn.q_gain") values.view(-1)[0] = std::numeric_limits<float>::infinity();
    tensors.emplace_back(name, to_raw(values));
  }
  const std::string bad = (folder_ / "infinite.pt").string();
  const auto metadata = model_metadata(file.stored.model, file.stored.train_seq_len);
  write_atomic(bad, save_torch(state_dict_value(tensors, upstream_module_paths(file.stored.model), metadata), "infinite"));
  const std::vector<std::string> data{"--val-files", Dataset::get().val_files(), "--tokenizer-path",
                                      Dataset::get().tokenizer_path()};
  for (std::vector<std::string> command :
       std::vector<std::vector<std::string>>{{"score", bad},
                                             {"compare", run_.model().string(), bad},
                                             {"generate", bad, "--prompt", "the", "--temperature", "0"},
                                             {"export", bad, (folder_ / "out.safetensors").string()}}) {
    const auto from = command[0] == "generate" ? data.begin() + 2 : data.begin();
    if (command[0] != "export") command.insert(command.end(), from, data.end());
    const auto result = run_program("eval_gpt", command);
    EXPECT_EQ(result.code, static_cast<int>(ExitCode::non_finite)) << command[0] << result.err;
    EXPECT_NE(result.err.find("infinite.pt: 1 of 2 values of blocks.1.attn.q_gain"), std::string::npos) << result.err;
  }
  EXPECT_FALSE(fs::exists(folder_ / "out.safetensors"));
  EXPECT_EQ(run_program("eval_gpt", {"inspect", bad}).code, 0);
}

TEST_F(EvalGpt, FlagsSupplyWhatUpstreamsFilesLack) {
  const ModelFile ours = read_model_file(run_.model());
  NamedTensors tensors;
  for (const auto& [name, tensor] : ours.state) tensors.emplace_back(name, to_raw(tensor));
  const std::string silent = (folder_ / "silent.pt").string();
  write_atomic(silent, save_torch(state_dict_value(tensors, upstream_module_paths(ours.stored.model), {}), "silent"));
  const auto loss_with = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments{silent, "--eval-seq-len", "16", "--eval-tokens", "512", "--format", "jsonl"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const auto result = score(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return nlohmann::json::parse(result.out);
  };
  const auto right = loss_with({"--rope-dims", "6"}), assumed = loss_with({});
  EXPECT_NEAR(right.at("val_loss").get<double>(), loss_of("val"), 1e-6);
  EXPECT_EQ(right.at("rope_dims"), 6);
  EXPECT_GT(std::abs(assumed.at("val_loss").get<double>() - loss_of("val")), 1e-5);
  EXPECT_EQ(assumed.at("rope_dims"), 16) << "the whole head";
  const auto other_kind = loss_with({"--rope-dims", "6", "--mlp-kind", "gelu", "--qk-norm", "off"});
  EXPECT_GT(std::abs(other_kind.at("val_loss").get<double>() - loss_of("val")), 1e-5);
  const auto has = [&](const std::string& text) { return other_kind.at("assumed").dump().find(text) != std::string::npos; };
  EXPECT_TRUE(has("\"MLP_KIND=gelu\"") && has("\"QK_NORM=0\"") && has("\"ROPE_DIMS=6\"")) << other_kind;
  EXPECT_NE(score({silent, "--mlp-leaky-slope", "0.1"}).err.find("this MLP_KIND has no slope"), std::string::npos);
  const auto contradiction = score({run_.model().string(), "--rope-dims", "4"});
  EXPECT_EQ(contradiction.code, 2);
  EXPECT_NE(contradiction.err.find("ROPE_DIMS=6"), std::string::npos) << contradiction.err;
  EXPECT_NE(score({run_.model().string(), "--mlp-kind", "gelu"}).err.find("trained with MLP_KIND=relu2"), std::string::npos);
}

TEST_F(EvalGpt, PathsMayContainAnyBytes) {
  const std::string odd = (folder_ / "caf\xe9\n\x1b[2J|.pt").string();
  fs::copy_file(run_.model(), odd);
  const auto lines = score({odd, "--format", "jsonl"});
  ASSERT_EQ(lines.code, 0) << lines.err;
  EXPECT_EQ(nlohmann::json::parse(lines.out).at("checkpoint"), (folder_ / "caf\ufffd\n\x1b[2J|.pt").string());
  const std::pair<const char*, const char*> shown[] = {{"text", "caf???[2J|.pt_exact"},
                                                       {"table", "caf???[2J|.pt "},
                                                       {"md", "caf???[2J\\|.pt |"},
                                                       {"csv", "caf\xe9\n\x1b[2J|.pt\","}};
  for (const auto& [form, name] : shown) {
    const auto result = score({odd, "--format", form});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find(name), std::string::npos) << result.out;
  }
  EXPECT_NE(score({odd + "no", odd + "no"}).err.find("caf???[2J|.ptno"), std::string::npos) << "in warnings, too";
}

TEST_F(EvalGpt, ErrorsNameTheCause) {
  const auto expect_mistake = [](const ProgramResult& result, int code, const std::string& part) {
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_EQ(result.err.rfind("error: ", 0), 0u) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  };
  expect_mistake(score({}), 2, "no model");
  expect_mistake(score({(folder_ / "missing.pt").string()}), 3, "missing.pt");
  const std::string alone = (folder_ / "alone.pt").string();
  fs::copy_file(run_.model(), alone);
  expect_mistake(run_program("eval_gpt", {alone, "--tokenizer-path", Dataset::get().tokenizer_path()}), 2,
                 "no validation tokens");
  expect_mistake(score({run_.model().string(), "--data-path", "d"}), 2, "both given");
  expect_mistake(score({run_.model().string(), "--devices", "0"}), 2, "DEVICES are GPUs, but DEVICE=cpu");
  expect_mistake(score({run_.model().string(), "--eval-stride", "17"}), 2, "EVAL_STRIDE=17 is larger than the window of 16");
  expect_mistake(score({run_.model().string(), "--eval-stride", "17"}), 2, "final_model.pt: EVAL_STRIDE");
  expect_mistake(score({run_.model().string(), "--eval-seq-len", "16,x"}), 2, "EVAL_SEQ_LEN=x");
  expect_mistake(score({run_.model().string(), "--output", "o"}), 2, "OUTPUT cannot be used with FORMAT=text");
  expect_mistake(score({run_.model().string(), "--format", "csv", "--output", (folder_ / "no/o").string()}), 6, "no/o");
  expect_mistake(score({run_.model().string(), "--format", "csv", "--by-document", "1"}), 2, "BY_DOCUMENT");
  expect_mistake(run_program("eval_gpt", {run_.model().string(), "--val-files", (folder_ / "no*").string(), "--tokenizer-path",
                                          Dataset::get().tokenizer_path()}),
                 3, "no*");
  expect_mistake(run_program("eval_gpt", {"generate", "--prompt", "the river"}), 2, "exactly one model");
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

TEST(EvalGptHelp, ListsEveryCommand) {
  const auto help = run_program("eval_gpt", {"--help"});
  ASSERT_EQ(help.code, 0) << help.err;
  EXPECT_NE(help.out.find("\nUsage: eval_gpt [score] "), std::string::npos) << help.out;
  const std::string list = help.out.substr(0, help.out.find("\n\n") + 1);
  size_t commands = 0;
  for (const auto& line : split(read_text(PGOLF_SOURCE_DIR "/src/apps/eval/commands.h"), '\n')) {
    const std::string start = "ExitCode run_";
    if (line.rfind(start, 0) != 0) continue;
    const std::string name = line.substr(start.size(), line.find('(') - start.size());
    const size_t at = list.find("\n  " + name + " ");
    ASSERT_NE(at, std::string::npos) << name << " is not among\n" << list;
    EXPECT_GT(trim(list.substr(at, list.find('\n', at + 1) - at)).size(), name.size() + 10) << "what it does";
    const auto own = run_program("eval_gpt", {name, "--help"});
    EXPECT_EQ(own.code, 0) << own.err;
    EXPECT_EQ(own.out.rfind("Usage: eval_gpt " + (name == "score" ? "[score]" : name) + " ", 0), 0u) << own.out;
    ++commands;
  }
  EXPECT_EQ(static_cast<size_t>(std::count(list.begin(), list.end(), '\n')), 1 + commands) << list;
}

}  // namespace
}  // namespace pgolf::testing
