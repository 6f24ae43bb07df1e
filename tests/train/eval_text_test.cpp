// eval_gpt generate and choices on a model created by the test.
#include "pgolf/artifact/torch_file.h"
#include "pgolf/eval/choice_tasks.h"
#include "pgolf/model/generate.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/tensors.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

constexpr int kContext = 48;

/// A file as train_gpt writes it: 2 layers of width 32, random weights, trained on windows of kContext tokens.
void write_model(const fs::path& path, int64_t seed) {
  ModelConfig config = tiny_config();
  config.vocab_size = Dataset::vocab_size;
  config.tied_embed_init_std = 0.3;
  Gpt model = make_random_model(config, seed);
  NamedTensors tensors;
  for (const auto& [name, tensor] : state_dict(model)) tensors.emplace_back(name, to_raw(tensor));
  write_atomic(path,
               save_torch(state_dict_value(tensors, upstream_module_paths(config), model_metadata(config, kContext)), "model"));
}

class EvalText : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ / "tasks");
    write_model(model_, 5);
  }

  ProgramResult run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--tokenizer-path", Dataset::get().tokenizer_path(), "--dtype", "float32", "--device",
                                       "cpu", "--num-threads", "1"});
    return run_program("eval_gpt", arguments);
  }
  ProgramResult generate_text(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{"generate", model_.string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
  static void expect_mistake(const ProgramResult& result, int code, const std::string& part) {
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_EQ(result.err.rfind("error: ", 0), 0u) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  }

  TempFolder folder_;
  fs::path model_ = folder_ / "model.pt";
};

TEST_F(EvalText, ThePrintedTextIsTheDecodedOne) {
  const auto result = generate_text({"--prompt", "the river", "--max-new-tokens", "60", "--seed", "3", "--temperature", "1.2",
                                     "--top-k", "100", "--top-p", "0.9"});
  ASSERT_EQ(result.code, 0) << result.err;
  const ModelFile file = read_model_file(model_);
  Gpt model = build_model(file, at::kFloat, OpsPath::fast, at::kCPU);
  const Tokenizer tokenizer(Dataset::get().tokenizer_path());
  std::vector<int> ids{kBosId};
  for (const int id : tokenizer.encode("the river")) ids.push_back(id);
  GenerateOptions options;
  options.max_new_tokens = 60;
  options.seed = 3;
  options.temperature = 1.2;
  options.top_k = 100;
  options.top_p = 0.9;
  options.context = kContext;
  options.ends = tokenizer.document_ends();
  for (const int id : generate(model, ids, options, at::kCPU)) ids.push_back(id);
  EXPECT_EQ(result.out, "[3] " + tokenizer.decode(ids) + "\n");
  EXPECT_NE(result.err.find("tokens/s"), std::string::npos) << result.err;
}

TEST_F(EvalText, TheCacheDoesNotChangeTheText) {
  const std::vector<std::string> arguments{"--prompt", "the river", "--max-new-tokens", "60", "--num-samples", "2"};
  auto without = arguments;
  without.insert(without.end(), {"--kv-cache", "0"});
  const auto kept = generate_text(arguments), recomputed = generate_text(without);
  ASSERT_EQ(kept.code, 0) << kept.err;
  ASSERT_EQ(recomputed.code, 0) << recomputed.err;
  EXPECT_EQ(kept.out, recomputed.out);
  EXPECT_NE(kept.out.find("\n[2] the river"), std::string::npos) << kept.out;
}

TEST_F(EvalText, GreedyTextDoesNotDependOnTheSeed) {
  const auto text = [&](const char* seed) {
    const auto result = generate_text({"--prompt", "the river", "--temperature", "0", "--seed", seed});
    EXPECT_EQ(result.code, 0) << result.err;
    return result.out.substr(result.out.find(' '));
  };
  EXPECT_EQ(text("1"), text("2"));
}

TEST_F(EvalText, OptionsOutOfRangeAreUsageErrors) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"--temperature", "1e39"}, {"--temperature", "nan"},          {"--temperature", "-1e-46"}, {"--top-p", "0"},
      {"--top-p", "1.0000001"},  {"--seed", "9223372036854775808"}, {"--seed", "4294967296"},    {"--seed", "-1"},
  };
  for (const auto& [option, value] : mistakes) expect_mistake(generate_text({"--prompt", "the", option, value}), 2, option);
  expect_mistake(generate_text({"--prompt", "the", "--seed", "4294967295", "--num-samples", "2"}), 2, "--seed");
  expect_mistake(run({"serve", model_.string(), "--model-name", "a\nb"}), 2, "--model-name");
  expect_mistake(run({"serve", model_.string(), "--model-name", "caf\xe9"}), 2, "");
}

TEST_F(EvalText, ExtremeOptionsMeanWhatTheySay) {
  const auto sample = [&](const char* option, const char* value) {
    return generate_text({"--prompt", "the", "--max-new-tokens", "8", "--seed", "4294967295", option, value});
  };
  const auto greedy = sample("--temperature", "0");
  EXPECT_EQ(greedy.code, 0) << greedy.err;
  EXPECT_TRUE(greedy.out.starts_with("[4294967295] the")) << greedy.out;
  EXPECT_EQ(sample("--top-p", "1e-46").out, greedy.out);
  EXPECT_EQ(sample("--temperature", "1e-40").out, greedy.out);
}

TEST_F(EvalText, ThePromptMayBeAFileOrStandardInput) {
  write_file(folder_ / "prompt.txt", "the river\n");
  write_file(folder_ / "empty.txt", "");
  const auto from_flag = generate_text({"--prompt", "the river", "--temperature", "0"});
  ASSERT_EQ(from_flag.code, 0) << from_flag.err;
  EXPECT_EQ(generate_text({"--prompt-file", (folder_ / "prompt.txt").string(), "--temperature", "0"}).out, from_flag.out);
  const auto from_nothing = generate_text({"--prompt-file", (folder_ / "empty.txt").string(), "--temperature", "0"});
  EXPECT_EQ(from_nothing.code, 0) << from_nothing.err;
  // The program's standard input is empty here.
  EXPECT_EQ(generate_text({"--prompt-file", "-", "--temperature", "0"}).out, from_nothing.out);
  expect_mistake(generate_text({}), 2, "prompt");
  expect_mistake(generate_text({"--prompt", "a", "--prompt-file", "-"}), 2, "either");
  expect_mistake(generate_text({"--prompt-file", (folder_ / "absent").string()}), 3, "absent");
  expect_mistake(generate_text({"--prompt", "a", "--top-p", "0"}), 2, "TOP_P");
}

constexpr const char* kPick = R"({"query": "the small river", "choices": ["sings.", "walks over the bridge", "of"], "gold": 1}
{"query": "a letter", "choices": ["never", "and the morning", "always sings"], "gold": 0}
)";
constexpr const char* kGap = R"({"context": "the river walks under the", "continuation": "bridge"}
{"context": "winter and", "continuation": "summer"}
{"context": "who remembers the stone house under the mountain of paper and water and light and the great bridge over the summer garden of winter", "continuation": "and"}
)";

class EvalChoices : public EvalText {
 protected:
  void SetUp() override {
    EvalText::SetUp();
    write_file(folder_ / "tasks" / "pick.jsonl", kPick);
    write_file(folder_ / "tasks" / "gap.jsonl", kGap);
    write_model(other_, 6);
  }
  ProgramResult choices(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "choices");
    arguments.insert(arguments.end(), {"--tasks", (folder_ / "tasks" / "*.jsonl").string()});
    return run(arguments);
  }
  static std::vector<nlohmann::json> lines_of(const std::string& text) {
    std::vector<nlohmann::json> lines;
    for (const auto& line : split(trim(text), '\n')) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }

  fs::path other_ = folder_ / "other.pt";
};

TEST_F(EvalChoices, JsonLinesAndSamplesAreThoseOfTheScorer) {
  const auto result =
      choices({model_.string(), other_.string(), "--format", "jsonl", "--log-samples", (folder_ / "log").string()});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto rows = lines_of(result.out), samples = lines_of(read_text(folder_ / "log"));
  ASSERT_EQ(rows.size(), 4u);
  ASSERT_EQ(samples.size(), 2u * (3 + 6));
  const Tokenizer tokenizer(Dataset::get().tokenizer_path());
  size_t next = 0;
  for (const auto& path : {model_, other_}) {
    Gpt model = build_model(read_model_file(path), at::kFloat, OpsPath::fast, at::kCPU);
    for (const char* name : {"gap", "pick"}) {
      const auto task = read_choice_task(folder_ / "tasks" / (std::string(name) + ".jsonl"), {}, 0);
      const auto scores = likelihoods(model, encode_task(task, tokenizer), kContext, kBosId, at::kCPU);
      const auto expected = summarize(task, scores);
      const auto row = std::find_if(rows.begin(), rows.end(), [&](const nlohmann::json& line) {
        return line.at("task") == name && line.at("checkpoint") == path.string();
      });
      ASSERT_NE(row, rows.end());
      EXPECT_EQ(row->at("items"), expected.items);
      EXPECT_DOUBLE_EQ(row->at("acc").get<double>(), expected.acc.value);
      EXPECT_EQ(row->at("truncated"), std::string(name) == "gap" ? 1 : 0);
      if (task.form == TaskForm::cloze) {
        EXPECT_DOUBLE_EQ(row->at("perplexity").get<double>(), expected.perplexity.value);
        EXPECT_TRUE(row->at("acc_norm").is_null());
      } else {
        EXPECT_DOUBLE_EQ(row->at("acc_norm").get<double>(), expected.acc_norm.value);
        EXPECT_TRUE(row->at("perplexity").is_null());
      }
      for (const auto& score : scores) {
        const auto& sample = samples[next++];
        EXPECT_EQ(sample.at("task"), name);
        EXPECT_DOUBLE_EQ(sample.at("log_prob").get<double>(), score.log_prob);
        EXPECT_EQ(sample.at("greedy"), score.greedy);
      }
    }
  }
  EXPECT_EQ(rows[0].at("task"), rows[1].at("task")) << "checkpoints side by side";
  EXPECT_EQ(samples[5].at("line"), 1);
  EXPECT_EQ(samples[5].at("option"), 2);
  EXPECT_EQ(samples[4].at("gold"), true);
}

TEST_F(EvalChoices, TablesHaveALinePerTaskAndCheckpoint) {
  const auto table = choices({model_.string(), other_.string()}), md = choices({model_.string(), "--format", "md"}),
             csv = choices({model_.string(), "--format", "csv", "--output", (folder_ / "out.csv").string()});
  ASSERT_EQ(table.code, 0) << table.err;
  const auto lines = split(trim(table.out), '\n');
  ASSERT_EQ(lines.size(), 5u) << table.out;
  EXPECT_EQ(lines[0].rfind("task", 0), 0u);
  EXPECT_EQ(lines[1].rfind("gap", 0), 0u);
  EXPECT_NE(lines[4].find("other.pt"), std::string::npos);
  EXPECT_NE(lines[4].find("±"), std::string::npos);
  const auto rows = split(trim(md.out), '\n');
  ASSERT_EQ(rows.size(), 4u) << md.out;
  for (const auto& row : rows) EXPECT_EQ(std::count(row.begin(), row.end(), '|'), 8) << row;
  EXPECT_EQ(csv.out, "");
  const auto cells = split(trim(read_text(folder_ / "out.csv")), '\n');
  ASSERT_EQ(cells.size(), 3u);
  EXPECT_EQ(cells[0].rfind("checkpoint,task,form,items,truncated,acc,acc_stderr,", 0), 0u) << cells[0];
  for (const auto& line : cells)
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), std::count(cells[0].begin(), cells[0].end(), ',')) << line;
}

TEST_F(EvalChoices, LimitDelimiterAndCueAreApplied) {
  const auto sums = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments{model_.string(), "--format", "jsonl", "--log-samples", (folder_ / "log").string()};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const auto result = choices(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    double pick = 0;
    size_t items = 0;
    for (const auto& sample : lines_of(read_text(folder_ / "log"))) {
      ++items;
      if (sample.at("task") == "pick") pick += sample.at("log_prob").get<double>();
    }
    return std::pair(items, pick);
  };
  const auto plain = sums({});
  EXPECT_EQ(sums({"--limit", "1"}).first, 1u + 3u);
  EXPECT_NE(sums({"--delimiter", "none"}).second, plain.second);
  EXPECT_EQ(sums({"--delimiter", "space"}).second, plain.second) << "no choice begins with punctuation";
  EXPECT_NE(sums({"--answer-cue", "1"}).second, plain.second);
}

TEST_F(EvalChoices, ErrorsNameTheCause) {
  expect_mistake(run({"choices", model_.string()}), 2, "tasks");
  expect_mistake(run({"choices", "--tasks", "x"}), 2, "no model");
  expect_mistake(run({"choices", model_.string(), "--tasks", (folder_ / "no*").string()}), 3, "no*");
  expect_mistake(choices({(folder_ / "absent.pt").string()}), 3, "absent.pt");
  expect_mistake(choices({model_.string(), "--output", folder_.path().string()}), 6, "folder");
  write_file(folder_ / "tasks" / "zzz.jsonl", "{\"q\": 1}\n");
  expect_mistake(choices({model_.string(), "--log-samples", (folder_ / "log").string()}), 3, "zzz.jsonl:1");
  EXPECT_FALSE(fs::exists(folder_ / "log"));
  fs::remove(folder_ / "tasks" / "zzz.jsonl");
  const auto both = choices({(folder_ / "absent.pt").string(), model_.string(), "--format", "jsonl"});
  EXPECT_EQ(both.code, 3);
  EXPECT_EQ(lines_of(both.out).size(), 2u) << both.out;
}

}  // namespace
}  // namespace pgolf::testing
