// The program eval_gpt measure.
#include "pgolf/artifact/torch_file.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/tensors.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

class EvalMeasure : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    const auto trained = run_program("train_gpt", {"--rope-dims", "6"},
                                     tiny_variables({{"OUT_DIR", folder_->path().string()}, {"RUN_ID", "run"}}));
    ASSERT_EQ(trained.code, 0) << trained.err;
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  static ProgramResult measure(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "measure");
    arguments.insert(arguments.end(),
                     {"--val-files", Dataset::get().val_files(), "--tokenizer-path", Dataset::get().tokenizer_path(), "--dtype",
                      "float32", "--device", "cpu", "--num-threads", "1"});
    return run_program("eval_gpt", arguments);
  }
  static std::vector<nlohmann::json> parsed(const std::string& text) {
    std::vector<nlohmann::json> rows;
    for (const auto& line : split(trim(text), '\n')) rows.push_back(nlohmann::json::parse(line));
    return rows;
  }
  static RunFolder run() { return {*folder_ / "run"}; }
  static std::string model() { return run().model().string(); }

  static TempFolder* folder_;
};
TempFolder* EvalMeasure::folder_ = nullptr;

TEST_F(EvalMeasure, PrintsJsonLinesThatAreTheSameEveryTime) {
  const auto first = measure({run().path.string()}), again = measure({run().path.string()});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.err, "");
  EXPECT_EQ(first.out, again.out);
  const auto rows = parsed(first.out);
  EXPECT_EQ(rows[0].at("kind"), "measures");
  EXPECT_EQ(rows[0].at("checkpoint"), run().path.string());
  EXPECT_EQ(rows[0].at("rope_dims"), "6");
  EXPECT_EQ(rows[0].at("train_seq_len"), 16);
  std::vector<int> lengths;
  for (const auto& row : rows) {
    if (row.at("kind") == "length") lengths.push_back(row.at("seq_len"));
  }
  EXPECT_EQ(lengths, (std::vector<int>{8, 16, 32, 64}));
  for (const char* kind : {"position", "retrieval", "attention", "logit_share", "relative_shift"})
    EXPECT_GT(count_kind(rows, kind), 0) << kind;
}

TEST_F(EvalMeasure, OutputIsWrittenAtomicallyAndASummaryPrinted) {
  const fs::path output = *folder_ / "measures.jsonl";
  const std::vector<std::string> arguments{model(), "--eval-seq-lens", "1x,40", "--eval-tokens", "160"};
  auto with_output = arguments;
  with_output.insert(with_output.end(), {"--output", output.string()});
  const auto printed = measure(arguments), written = measure(with_output);
  ASSERT_EQ(written.code, 0) << written.err;
  EXPECT_EQ(read_text(output), printed.out);
  EXPECT_EQ(written.out.rfind("seq_len:16 val_loss:", 0), 0u) << written.out;
  for (const char* part : {"\nseq_len:40 val_loss:", "\ninduction, accuracy by distance: 8:", "\npasskey in 40 tokens",
                           "\nattention, mean of heads: ", "rotated dims' share of the logits"})
    EXPECT_NE(written.out.find(part), std::string::npos) << part << written.out;
  for (const auto& name : names_in(folder_->path())) EXPECT_EQ(name.find(".tmp."), std::string::npos) << name;
}

TEST_F(EvalMeasure, OptionsDecideWhatIsMeasured) {
  const auto rows_with = [&](const std::vector<std::string>& more, const char* items = "0", const char* windows = "0") {
    std::vector<std::string> arguments{model(), "--eval-seq-lens", "1x", "--retrieval-items", items, "--probe-windows", windows};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto result = measure(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return parsed(result.out);
  };
  const auto plain = rows_with({});
  EXPECT_EQ(plain.size(), 1u + 1 + 5);
  const auto limited = rows_with({"--eval-tokens", "100", "--val-batch-size", "16"});
  EXPECT_EQ(limited[1].at("tokens"), 96);
  const auto seeded = [&](const char* seed) { return rows_with({"--seed", seed}, "4").back().at("loss").get<double>(); };
  EXPECT_NE(seeded("1"), seeded("2"));
  const auto unrotated = rows_with({"--eval-rope-dims", "none"}, "0", "1");
  EXPECT_EQ(unrotated[0].at("rope_dims"), "none");
  EXPECT_EQ(unrotated[1].at("rope_table_bytes"), 0);
  EXPECT_NE(unrotated[1].at("val_loss"), plain[1].at("val_loss"));
  EXPECT_EQ(count_kind(unrotated, "attention"), 4);
}

TEST_F(EvalMeasure, FlagsSupplyWhatUpstreamsFilesLack) {
  const ModelFile ours = read_model_file(run().model());
  NamedTensors tensors;
  for (const auto& [name, tensor] : ours.state) tensors.emplace_back(name, to_raw(tensor));
  const std::string silent = (*folder_ / "silent.pt").string();
  write_atomic(silent, save_torch(state_dict_value(tensors, upstream_module_paths(ours.stored.model), {}), "silent"));
  const auto flagged = measure({silent, "--rope-dims", "6", "--train-seq-len", "16", "--eval-seq-lens", "2x"});
  ASSERT_EQ(flagged.code, 0) << flagged.err;
  auto rows = parsed(flagged.out), expected = parsed(measure({model(), "--eval-seq-lens", "2x"}).out);
  const auto assumed = rows[0].at("assumed").get<std::vector<std::string>>();
  EXPECT_EQ(std::count(assumed.begin(), assumed.end(), "TRAIN_SEQ_LEN=16"), 1);
  rows.erase(rows.begin());
  expected.erase(expected.begin());
  EXPECT_EQ(rows, expected);
  const auto contradiction = measure({model(), "--train-seq-len", "32"});
  EXPECT_EQ(contradiction.code, 2);
  EXPECT_NE(contradiction.err.find("TRAIN_SEQ_LEN=16"), std::string::npos) << contradiction.err;
}

TEST_F(EvalMeasure, ErrorsNameTheCause) {
  const auto refused = [](const std::vector<std::string>& arguments, int code, const std::string& part) {
    const auto result = measure(arguments);
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_EQ(result.err.rfind("error: ", 0), 0u) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    EXPECT_LE(std::count(result.err.begin(), result.err.end(), '\n'), 2) << "an error and a hint: " << result.err;
    EXPECT_EQ(result.out, "");
  };
  refused({model(), model()}, 2, "exactly one model");
  refused({model(), "--eval-seq-lens", "0x"}, 2, "0x");
  refused({model(), "--eval-seq-lens", ""}, 2, "EVAL_SEQ_LENS");
  refused({model(), "--eval-seq-lens", "100000"}, 3, "100000");
  refused({model(), "--retrieval-items", "-1"}, 2, "retrieval-items");
  refused({model(), "--output", (*folder_ / "missing/measures.jsonl").string()}, 6, "missing/measures.jsonl");
  refused({model(), "--output", folder_->path().string()}, 6, "is a folder");
  refused({model(), "--output", "/proc/measures.jsonl"}, 6, "/proc/measures.jsonl");
  const auto help = run_program("eval_gpt", {"measure", "--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* flag : {"--eval-seq-lens", "--retrieval-items", "--probe-windows", "--output", "--seed", "--val-batch-size"})
    EXPECT_NE(help.out.find(flag), std::string::npos) << flag;
}

}  // namespace
}  // namespace pgolf::testing
