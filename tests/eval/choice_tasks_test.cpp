#include "pgolf/eval/choice_tasks.h"

#include <cmath>

#include "support/dataset.h"

namespace pgolf::testing {
namespace {

class ChoiceTasks : public ::testing::Test {
 protected:
  ChoiceTask read(const std::string& content, const PromptStyle& style = {}, int64_t limit = 0) const {
    write_file(path_, content);
    return read_choice_task(path_, style, limit);
  }

  TempFolder folder_;
  fs::path path_ = folder_ / "set.jsonl";
};

constexpr const char* kChoices =
    R"({"query": "the small river", "choices": ["sings", ", and walks", "remembers caf\u00e9"], "gold": 2})";
constexpr const char* kContexts = R"({"context_options": ["the house", "the garden"], "continuation": "sings.", "gold": 1})";
constexpr const char* kCloze = R"({"context": "the river walks under the", "continuation": "bridge"})";

TEST_F(ChoiceTasks, AQueryHasSeveralContinuations) {
  const auto task = read(kChoices);
  EXPECT_EQ(task.name, "set");
  EXPECT_EQ(task.form, TaskForm::choices);
  ASSERT_EQ(task.items.size(), 1u);
  const auto& item = task.items[0];
  EXPECT_EQ(item.gold, 2u);
  ASSERT_EQ(item.options.size(), 3u);
  for (const auto& option : item.options) EXPECT_EQ(option.context, "the small river");
  EXPECT_EQ(item.options[0].continuation, " sings");
  EXPECT_EQ(item.options[1].continuation, ", and walks") << "punctuation follows without a blank";
  EXPECT_EQ(item.options[2].continuation, " remembers caf\u00e9");
  EXPECT_EQ(item.options[2].characters, 14);
  EXPECT_EQ(item.options[2].bytes, 15);
}

TEST_F(ChoiceTasks, AContinuationHasSeveralContexts) {
  const auto task = read(kContexts);
  EXPECT_EQ(task.form, TaskForm::contexts);
  const auto& item = task.items[0];
  EXPECT_EQ(item.gold, 1u);
  ASSERT_EQ(item.options.size(), 2u);
  EXPECT_EQ(item.options[0].context, "the house");
  EXPECT_EQ(item.options[1].context, "the garden");
  for (const auto& option : item.options) EXPECT_EQ(option.continuation, " sings.");
}

TEST_F(ChoiceTasks, AClozeHasOneContinuation) {
  const auto task = read(kCloze);
  EXPECT_EQ(task.form, TaskForm::cloze);
  ASSERT_EQ(task.items[0].options.size(), 1u);
  EXPECT_EQ(task.items[0].options[0].context, "the river walks under the");
  EXPECT_EQ(task.items[0].options[0].continuation, " bridge");
}

TEST_F(ChoiceTasks, TheStyleDecidesTheSeparator) {
  const auto space = read(kChoices, {.delimiter = Delimiter::space}), none = read(kChoices, {.delimiter = Delimiter::none});
  EXPECT_EQ(space.items[0].options[1].continuation, " , and walks");
  EXPECT_EQ(none.items[0].options[0].continuation, "sings");
  const auto cue = read(R"({"query": "Question: who?\n", "choices": ["a", "b"], "gold": 0})", {.answer_cue = true});
  EXPECT_EQ(cue.items[0].options[0].context, "Question: who?\nAnswer:");
  EXPECT_EQ(read(kCloze, {.answer_cue = true}).items[0].options[0].context, "the river walks under the");
}

TEST_F(ChoiceTasks, LimitAndBlankLines) {
  const std::string text = std::string(kCloze) + "\n\n" + kCloze + "\r\n" + kCloze + "\n";
  const auto all = read(text), two = read(text, {}, 2);
  ASSERT_EQ(all.items.size(), 3u);
  EXPECT_EQ(all.items[1].line, 3);
  EXPECT_EQ(two.items.size(), 2u);
}

TEST_F(ChoiceTasks, InvalidItemsAreNamed) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad{
      {"", {"no items"}},
      {"\n\n", {"no items"}},
      {"{", {"set.jsonl:1", "JSON"}},
      {"[1]", {"set.jsonl:1", "JSON object"}},
      {"{\"query\": \"\xff\"}", {"JSON"}},
      {R"({"question": "who", "answer": "me"})", {"match no known form", "answer, question"}},
      {R"({})", {"match no known form"}},
      {std::string(kCloze) + "\n" + kChoices, {"set.jsonl:2", "different fields", "cloze"}},
      {R"({"query": 5, "choices": ["a", "b"], "gold": 0})", {"query"}},
      {R"({"query": "q", "choices": ["a"], "gold": 0})", {"choices", "two"}},
      {R"({"query": "q", "choices": "ab", "gold": 0})", {"choices"}},
      {R"({"query": "q", "choices": ["a", 1], "gold": 0})", {"choices"}},
      {R"({"query": "q", "choices": ["a", "b"], "gold": 2})", {"gold", "0 to 1"}},
      {R"({"query": "q", "choices": ["a", "b"], "gold": -1})", {"gold"}},
      {R"({"query": "q", "choices": ["a", "b"], "gold": "0"})", {"gold"}},
      {R"({"context_options": ["a", "b"], "continuation": null, "gold": 0})", {"continuation"}}};
  for (const auto& [content, parts] : bad) {
    SCOPED_TRACE(content);
    expect_error(ExitCode::bad_input, parts, [&] { read(content); });
  }
  expect_error(ExitCode::bad_input, {"absent.jsonl"}, [&] { read_choice_task(folder_ / "absent.jsonl", {}, 0); });
}

TEST_F(ChoiceTasks, OptionsAreEncodedInOrder) {
  const Tokenizer tokenizer(Dataset::get().tokenizer_path());
  const auto pairs = encode_task(read(std::string(kContexts) + "\n" + kContexts), tokenizer);
  ASSERT_EQ(pairs.size(), 4u);
  EXPECT_EQ(pairs[3].context, tokenizer.encode("the garden"));
  expect_error(ExitCode::bad_input, {"set.jsonl:1", "encodes to no tokens"},
               [&] { encode_task(read(R"({"context": "the river", "continuation": " "})"), tokenizer); });
}

Likelihood likelihood(double log_prob, bool greedy = false, bool truncated = false) {
  return {log_prob, greedy, truncated};
}

TEST_F(ChoiceTasks, AccuraciesByHand) {
  // By sum the first option wins, by character the third, by byte the second, whose characters have two.
  const auto task = read(R"({"query": "q", "choices": ["abcd", "\u00e9\u00e9\u00e9\u00e9\u00e9", "abcdefgh"], "gold": 0}
{"query": "q", "choices": ["abcd", "\u00e9\u00e9\u00e9\u00e9\u00e9", "abcdefgh"], "gold": 1}
{"query": "q", "choices": ["abcd", "\u00e9\u00e9\u00e9\u00e9\u00e9", "abcdefgh"], "gold": 2}
{"query": "q", "choices": ["ab", "cd", "ef"], "gold": 0})");
  std::vector<Likelihood> scores;
  for (int i = 0; i < 3; ++i) {
    scores.push_back(likelihood(-4.0));                 // 1.00 per character, 1.00 per byte
    scores.push_back(likelihood(-4.4, false, i == 1));  // 0.88, 0.44
    scores.push_back(likelihood(-6.4));                 // 0.80, 0.80
  }
  for (int i = 0; i < 3; ++i) scores.push_back(likelihood(-2.0));  // a tie: the first one
  const auto result = summarize(task, scores);
  EXPECT_EQ(result.items, 4);
  EXPECT_EQ(result.truncated, 1);
  EXPECT_DOUBLE_EQ(result.acc.value, 0.5) << "items 1 and 4";
  EXPECT_DOUBLE_EQ(result.acc_norm.value, 0.5) << "items 3 and 4";
  EXPECT_DOUBLE_EQ(result.acc_bytes.value, 0.5) << "items 2 and 4";
  EXPECT_DOUBLE_EQ(result.acc.standard_error, std::sqrt(0.5 * 0.5 / 3));
  EXPECT_TRUE(std::isnan(result.perplexity.value));
}

TEST_F(ChoiceTasks, TheMostLikelyContextWins) {
  const auto task = read(std::string(kContexts) + "\n" + kContexts);
  const std::vector<Likelihood> scores{likelihood(-3), likelihood(-2), likelihood(-2), likelihood(-3)};
  const auto result = summarize(task, scores);
  EXPECT_DOUBLE_EQ(result.acc.value, 0.5);
  EXPECT_TRUE(std::isnan(result.acc_norm.value)) << "one continuation, one length";
}

TEST_F(ChoiceTasks, AClozeCountsGreedyOnesAndHasAPerplexity) {
  const auto task = read(std::string(kCloze) + "\n" + kCloze + "\n" + kCloze);
  const std::vector<Likelihood> scores{likelihood(-1, true), likelihood(-2), likelihood(-6)};
  const auto result = summarize(task, scores);
  EXPECT_DOUBLE_EQ(result.acc.value, 1.0 / 3);
  EXPECT_DOUBLE_EQ(result.perplexity.value, std::exp(3.0));
  EXPECT_NEAR(result.perplexity.standard_error, std::exp(3.0) * std::sqrt((4 + 1 + 9) / 2.0 / 3), 1e-9);
  EXPECT_TRUE(std::isnan(result.acc_norm.value));
  const auto one = summarize(read(kCloze), std::vector<Likelihood>{likelihood(-1)});
  EXPECT_TRUE(std::isnan(one.acc.standard_error));
}

}  // namespace
}  // namespace pgolf::testing
