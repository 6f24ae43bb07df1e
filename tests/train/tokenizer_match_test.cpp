// The tokenizer of a model and of its shards: told apart by their pieces, and bytes counted as asked.
#include "pgolf/data/byte_counts.h"
#include "pgolf/data/shard_manifest.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/model_writer.h"
#include "support/tokenizers.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

class TokenizerMatch : public ::testing::Test {
 protected:
  void SetUp() override {
    write_file(folder_ / "other.model",
               train_sentencepiece(normalized_texts(), {{"vocab_size", std::to_string(Dataset::vocab_size)}}));
    ASSERT_EQ(Tokenizer(folder_ / "other.model").vocab_size(), Dataset::vocab_size);
  }
  ProgramResult train(const Variables& changes, const std::vector<std::string>& arguments = {}) const {
    Variables all = tiny_variables({{"OUT_DIR", folder_.path().string()},
                                    {"RUN_ID", "run"},
                                    {"ITERATIONS", "4"},
                                    {"SAVE_EVERY", "2"},
                                    {"EVAL_TOKENS", "0"}});
    for (const auto& [name, value] : changes) all[name] = value;
    return run_program("train_gpt", arguments, all);
  }
  ProgramResult eval(std::vector<std::string> arguments, const std::string& tokenizer) const {
    arguments.insert(arguments.end(), {"--tokenizer-path", tokenizer, "--device", "cpu", "--num-threads", "1"});
    return run_program("eval_gpt", arguments);
  }
  std::string other() const { return (folder_ / "other.model").string(); }
  /// The dataset's documents, as shards of a tokenizer.
  std::string shards_of(const std::string& tokenizer, const char* name) const {
    std::string lines;
    for (unsigned i = 0; i < 60; ++i) lines += "{\"text\": \"" + made_up_text(i, 40) + "\"}\n";
    write_file(folder_ / "docs.jsonl", lines);
    TokenizeOptions options;
    options.inputs = {folder_ / "docs.jsonl"};
    options.tokenizer_path = tokenizer;
    options.out_dir = folder_ / name;
    options.val_docs = 12;
    options.byte_counting = ByteCounting::decoded;
    tokenize(options);
    return options.out_dir.string();
  }

  TempFolder folder_;
  RunFolder run_{folder_ / "run"};
  const std::string own_ = Dataset::get().tokenizer_path(), fingerprint_ = Tokenizer(own_).fingerprint();
};

void expect_refused(const ProgramResult& result, const std::vector<std::string>& parts) {
  EXPECT_EQ(result.code, static_cast<int>(ExitCode::usage)) << result.out << result.err;
  for (const auto& part : parts) EXPECT_NE(result.err.find(part), std::string::npos) << part << " is not in: " << result.err;
}

TEST_F(TokenizerMatch, ModelsStoreTheirTokenizer) {
  ASSERT_EQ(train({}).code, 0);
  const auto checkpoint = list_checkpoints(run_.checkpoints()).back();
  for (const auto& path : {run_.model(), run_.artifact(), checkpoint})
    EXPECT_EQ(read_model_file(path).stored.tokenizer, fingerprint_) << path;
  ASSERT_EQ(run_program("eval_gpt", {"export", run_.model().string(), "--output", (folder_ / "x.safetensors").string()}).code, 0);
  EXPECT_EQ(read_model_file(folder_ / "x.safetensors").stored.tokenizer, fingerprint_);

  const std::vector<std::string> refused{"other.model has other pieces than the tokenizer of", fingerprint_};
  const std::string model = run_.model().string(), val = Dataset::get().val_files();
  write_file(folder_ / "task.jsonl", R"({"context": "the river", "continuation": "sings"})");
  for (const auto& command :
       std::vector<std::vector<std::string>>{{"score", model, "--val-files", val},
                                             {"measure", model, "--val-files", val},
                                             {"compare", model, model, "--val-files", val},
                                             {"generate", model, "--prompt", "the"},
                                             {"choices", model, "--tasks", (folder_ / "task.jsonl").string()},
                                             {"serve", model, "--port", "0"}}) {
    SCOPED_TRACE(command[0]);
    expect_refused(eval(command, other()), refused);
  }
  EXPECT_EQ(eval({"score", model, "--val-files", val}, own_).code, 0);
}

TEST_F(TokenizerMatch, FilesThatDoNotSayWorkAsBefore) {
  ASSERT_EQ(train({}).code, 0);
  const ModelFile file = read_model_file(run_.model());
  ModelMetadata metadata = file.metadata;
  metadata.erase("TOKENIZER");
  write_model(folder_ / "old.pt", file.state, file.stored.model, metadata);
  write_model(folder_ / "upstreams.pt", file.state, file.stored.model, {});
  for (const char* name : {"old.pt", "upstreams.pt"}) {
    const auto result = eval({"score", (folder_ / name).string(), "--val-files", Dataset::get().val_files()}, other());
    EXPECT_EQ(result.code, 0) << result.err;
  }
}

TEST_F(TokenizerMatch, ShardsOfAnotherTokenizerAreRefused) {
  const std::string data = shards_of(own_, "mine");
  ASSERT_EQ(train({{"DATA_PATH", data}}).code, 0);
  const std::vector<std::string> refused{"other pieces than the tokenizer of the shards next to " + data + "/shards.json",
                                         fingerprint_};
  expect_refused(train({{"DATA_PATH", data}, {"TOKENIZER_PATH", other()}, {"RUN_ID", "second"}}), refused);
  EXPECT_FALSE(fs::exists(folder_ / "second"));
  write_model(folder_ / "upstreams.pt", read_model_file(run_.model()).state, read_model_file(run_.model()).stored.model, {});
  for (const char* command : {"score", "measure"})
    expect_refused(eval({command, (folder_ / "upstreams.pt").string(), "--val-files", data + "/fineweb_val_*.bin"}, other()),
                   refused);
}

TEST_F(TokenizerMatch, ARunDoesNotContinueWithAnotherTokenizer) {
  ASSERT_EQ(train({}).code, 0);
  expect_refused(train({{"TOKENIZER_PATH", other()}}, {"--resume"}), {"other.model has other pieces", "step_00000004"});
}

TEST_F(TokenizerMatch, BytesAreCountedAsAsked) {
  write_file(folder_ / "suffix.model",
             train_sentencepiece(normalized_texts(),
                                 {{"vocab_size", std::to_string(Dataset::vocab_size)}, {"treat_whitespace_as_suffix", "true"}}));
  const std::string tokenizer = (folder_ / "suffix.model").string(), data = shards_of(tokenizer, "suffixed");
  const auto final_of = [&](const char* id) {
    nlohmann::json last;
    for (const auto& line : read_metrics(RunFolder{folder_ / id}.metrics())) last = line;
    return last;
  };
  const Variables suffixed{{"DATA_PATH", data}, {"TOKENIZER_PATH", tokenizer}};
  const auto by_rule = train(suffixed);
  ASSERT_EQ(by_rule.code, 0) << by_rule.err;
  EXPECT_NE(by_rule.err.find("warning: " + tokenizer + ": the rule that counts bytes does not fit"), std::string::npos)
      << by_rule.err;
  EXPECT_EQ(by_rule.err.find("warning: ", 1), std::string::npos) << "once: " << by_rule.err;
  const auto decoded =
      train({{"DATA_PATH", data}, {"TOKENIZER_PATH", tokenizer}, {"BYTE_COUNT", "decoded"}, {"RUN_ID", "decoded"}});
  ASSERT_EQ(decoded.code, 0) << decoded.err;
  EXPECT_EQ(decoded.err, "");
  EXPECT_NE(decoded.out.find("byte_count:decoded"), std::string::npos);

  const ValidationSet validation(data + "/fineweb_val_*.bin", 16);
  const Tokenizer model(tokenizer);
  const auto bytes = [&](ByteCounting counting) {
    return ByteCounts(model, model.vocab_size(), counting).count(validation.tokens());
  };
  EXPECT_EQ(final_of("run").at("bytes"), bytes(ByteCounting::rule));
  EXPECT_EQ(final_of("decoded").at("bytes"), bytes(ByteCounting::decoded));
  EXPECT_LT(bytes(ByteCounting::decoded), bytes(ByteCounting::rule));
  EXPECT_EQ(final_of("run").at("val_loss"), final_of("decoded").at("val_loss"));

  const std::vector<std::string> score{"score", run_.model().string(), "--val-files", data + "/fineweb_val_*.bin", "--format",
                                       "jsonl"};
  auto exact = score;
  exact.insert(exact.end(), {"--byte-count", "decoded"});
  const auto first = eval(score, tokenizer), second = eval(exact, tokenizer);
  ASSERT_EQ(first.code + second.code, 0) << first.err << second.err;
  EXPECT_NE(first.err.find("does not fit"), std::string::npos) << first.err;
  EXPECT_EQ(second.err.find("does not fit"), std::string::npos) << second.err;
  EXPECT_EQ(nlohmann::json::parse(first.out).at("bytes"), bytes(ByteCounting::rule));
  EXPECT_EQ(nlohmann::json::parse(second.out).at("bytes"), bytes(ByteCounting::decoded));
  EXPECT_EQ(nlohmann::json::parse(second.out).at("overrides"), nlohmann::json({"BYTE_COUNT=decoded"}));
}

}  // namespace
}  // namespace pgolf::testing
