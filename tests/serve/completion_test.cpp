#include "pgolf/serve/completion.h"

#include "support.h"
#include "support/tokenizers.h"

namespace pgolf::testing {
namespace {

class Completions : public ::testing::Test {
 protected:
  struct Result {
    std::string text, finish_reason;
    std::vector<ReportedToken> tokens;
    std::vector<std::string> parts;  ///< the parts of the text, without empty ones
  };

  std::vector<int> ids_of(const std::string& text) const { return tokenizer_.encode(text); }
  /// The byte tokens of text.
  std::vector<int> bytes_of(const std::string& text) const {
    std::vector<int> ids;
    for (const char c : text) {
      char piece[8];
      std::snprintf(piece, sizeof piece, "<0x%02X>", static_cast<unsigned char>(c));
      for (int id = 0; id < tokenizer_.vocab_size(); ++id) {
        if (tokenizer_.id_to_piece(id) == piece) ids.push_back(id);
      }
    }
    EXPECT_EQ(ids.size(), text.size());
    return ids;
  }
  Result complete(const std::vector<int>& prompt, const std::vector<int>& script) {
    ScriptedModel model(script);
    Completion completion(model, tokenizer_, request_, prompt, /*seed=*/4);
    Result result;
    while (!completion.done()) {
      CompletionPart part = completion.step();
      if (!part.text.empty()) result.parts.push_back(part.text);
      result.text += part.text;
      std::move(part.tokens.begin(), part.tokens.end(), std::back_inserter(result.tokens));
    }
    result.finish_reason = completion.finish_reason();
    return result;
  }

  Tokenizer tokenizer_{Dataset::get().tokenizer_path()};
  CompletionRequest request_{.prompts = {}, .max_tokens = 100, .stop = {}, .logprobs = {}};
};

TEST_F(Completions, KeepTheBlankBetweenPromptAndText) {
  const auto all = ids_of("the river walks"), prompt = ids_of("the");
  const auto result = complete(prompt, {all.begin() + static_cast<std::ptrdiff_t>(prompt.size()), all.end()});
  EXPECT_EQ(result.text, " river walks");
  EXPECT_EQ(result.finish_reason, "stop");  // the document's end
}

TEST_F(Completions, EndAtBosAndEosOfTheTokenizer) {
  EXPECT_EQ(complete({}, {7, 2, 7}).finish_reason, "stop");
  const Tokenizer other(
      train_sentencepiece(normalized_texts(), {{"pad_id", "0"}, {"unk_id", "1"}, {"bos_id", "3"}, {"eos_id", "2"}}),
      "other.model");
  for (const int end : {2, 3}) {
    ScriptedModel model({300, 301, end, 302});
    Completion completion(model, other, request_, {}, /*seed=*/1);
    while (!completion.done()) completion.step();
    EXPECT_EQ(completion.finish_reason(), "stop");
    EXPECT_EQ(completion.new_tokens(), 3);
  }
}

TEST_F(Completions, EndAtTheirLength) {
  request_.max_tokens = 2;
  const auto script = ids_of("the river walks under a stone");
  const auto result = complete({}, script);
  EXPECT_EQ(result.text, tokenizer_.decode({script[0], script[1]}));
  EXPECT_EQ(result.finish_reason, "length");
  request_.max_tokens = 0;
  EXPECT_EQ(complete(script, script).text, "");
  EXPECT_EQ(complete(script, script).finish_reason, "length");
}

TEST_F(Completions, StopTextsAreNotReturned) {
  const std::string whole = "the river walks under the bridge of stone";
  const auto script = ids_of(whole);
  request_.logprobs = 1;
  for (const std::string stop : {"under", "er the", " bridge", "e river walks under the bridge of s", "t", "the river"}) {
    request_.stop = {"never there", stop};
    const auto result = complete({}, script);
    EXPECT_EQ(result.text, whole.substr(0, whole.find(stop))) << stop;
    EXPECT_EQ(result.finish_reason, "stop");
    // Exactly the tokens whose text was returned, at least in part.
    EXPECT_EQ(result.tokens.empty(), result.text.empty()) << stop;
    for (const auto& token : result.tokens) EXPECT_LT(token.offset, result.text.size()) << stop;
  }
  request_.stop = {"stones"};
  EXPECT_EQ(complete({}, script).text, whole);
}

TEST_F(Completions, TheEarliestStopTextCounts) {
  request_.stop = {"walks under", "river"};
  EXPECT_EQ(complete({}, ids_of("the river walks under")).text, "the ");
}

TEST_F(Completions, CharactersAreWhole) {
  const std::string word = "\u20ac!\u00e9";  // three bytes, one, two
  const auto result = complete(ids_of("the"), bytes_of(word));
  EXPECT_EQ(result.text, word);
  EXPECT_EQ(result.parts, (std::vector<std::string>{"\u20ac", "!", "\u00e9"}));
  request_.max_tokens = 2;  // cut within the first
  EXPECT_EQ(complete(ids_of("the"), bytes_of(word)).text, "\ufffd\ufffd");
}

TEST_F(Completions, OffsetsCountCharacters) {
  request_.logprobs = 1;
  const auto result = complete(bytes_of("\u20ac\u00e9"), bytes_of("a\u20acb"));
  ASSERT_EQ(result.tokens.size(), 5u);
  std::vector<size_t> offsets;
  for (const auto& token : result.tokens) offsets.push_back(token.offset);
  EXPECT_EQ(offsets, (std::vector<size_t>{2, 3, 3, 3, 4}));
}

TEST_F(Completions, EchoGivesThePromptFirst) {
  const auto prompt = ids_of("the river"), script = ids_of("a stone");
  request_.echo = true;
  request_.max_tokens = 1;
  EXPECT_TRUE(complete(prompt, script).tokens.empty());
  request_.logprobs = 1;
  const auto result = complete(prompt, script);
  EXPECT_EQ(result.parts[0], "the river");
  ASSERT_EQ(result.tokens.size(), prompt.size() + 1);
  EXPECT_FALSE(result.tokens[0].score.known);
  for (size_t i = 1; i < prompt.size(); ++i) {
    EXPECT_TRUE(result.tokens[i].score.known);
    EXPECT_EQ(result.tokens[i].score.id, prompt[i]);
    EXPECT_EQ(result.tokens[i].score.log_prob, -1 - static_cast<float>(i));
  }
  EXPECT_EQ(result.tokens.back().score.id, script[0]);
  request_.max_tokens = 0;
  EXPECT_EQ(complete(prompt, script).tokens.size(), prompt.size());
  EXPECT_EQ(complete(prompt, script).text, "the river");
}

TEST_F(Completions, PartsAddUpToTheText) {
  const auto script = ids_of("the river walks under the bridge of stone. caf\u00e9 42");
  request_.stop = {"bridge over"};
  const auto result = complete({}, script);
  EXPECT_EQ(result.text, tokenizer_.decode(script));
  EXPECT_GT(result.parts.size(), 3u);
}

}  // namespace
}  // namespace pgolf::testing
