#include "pgolf/serve/request.h"

#include "support.h"
#include "support/tokenizers.h"

namespace pgolf::testing {
namespace {

class Request : public ::testing::Test {
 protected:
  CompletionRequest parse(const json& body) const { return parse_completion_request(body.dump(), "tiny", tokenizer_, limits_); }

  /// The error that a body causes.
  ApiError error_of(const std::string& body) const {
    try {
      parse_completion_request(body, "tiny", tokenizer_, limits_);
    } catch (const ApiError& e) {
      return e;
    }
    ADD_FAILURE() << "accepted: " << body.substr(0, 200);
    return {0, ""};
  }
  void expect_refused(const json& field, const char* param) const {
    json body{{"prompt", "the river"}};
    body.update(field);
    const ApiError e = error_of(body.dump());
    EXPECT_EQ(e.status, 400) << body;
    EXPECT_EQ(e.param, param) << body;
    EXPECT_NE(std::string(e.what()).find(param), std::string::npos) << e.what();
  }

  Tokenizer tokenizer_{Dataset::get().tokenizer_path()};
  RequestLimits limits_{.context = 16, .max_tokens = 100, .max_choices = 4};
};

TEST_F(Request, AbsentFieldsHaveOpenAisDefaults) {
  const std::vector<json> bodies{
      {{"prompt", "the river"}},
      {{"prompt", "the river"}, {"model", nullptr}, {"stop", nullptr}, {"logprobs", nullptr}, {"n", nullptr}}};
  for (const json& body : bodies) {
    const auto request = parse(body);
    ASSERT_EQ(request.prompts.size(), 1u);
    EXPECT_EQ(request.prompts[0], tokenizer_.encode("the river"));
    EXPECT_EQ(request.max_tokens, 16);
    EXPECT_EQ(request.n, 1);
    EXPECT_EQ(request.sampling.temperature, 1);
    EXPECT_EQ(request.sampling.top_p, 1);
    EXPECT_EQ(request.sampling.top_k, 0);
    EXPECT_TRUE(request.stop.empty());
    EXPECT_FALSE(request.echo || request.stream || request.include_usage || request.logprobs);
  }
  EXPECT_NE(parse({{"prompt", "a"}}).sampling.seed, parse({{"prompt", "a"}}).sampling.seed);
}

TEST_F(Request, TakesWhatIsGiven) {
  const auto request = parse({{"model", "tiny"},
                              {"prompt", json::array({"a", "the"})},
                              {"max_tokens", 100},
                              {"n", 2},
                              {"best_of", 2},
                              {"temperature", 0},
                              {"top_p", 0.5},
                              {"top_k", 7},
                              {"seed", -3},
                              {"stop", json::array({".", "river", ""})},
                              {"echo", true},
                              {"logprobs", 0},
                              {"stream", true},
                              {"stream_options", {{"include_usage", true}}},
                              {"presence_penalty", 0},
                              {"suffix", ""},
                              {"logit_bias", json::object()},
                              {"user", {1, 2}}});
  EXPECT_EQ(request.prompts.size(), 2u);
  EXPECT_EQ(request.max_tokens, 100);
  EXPECT_EQ(request.n, 2);
  EXPECT_EQ(request.sampling.temperature, 0);
  EXPECT_EQ(request.sampling.top_p, 0.5);
  EXPECT_EQ(request.sampling.top_k, 7);
  EXPECT_EQ(request.sampling.seed, -3);
  EXPECT_EQ(request.stop, (std::vector<std::string>{".", "river"}));
  EXPECT_TRUE(request.echo && request.stream && request.include_usage);
  EXPECT_EQ(request.logprobs, 0);
  EXPECT_EQ(parse({{"prompt", "a"}, {"stop", "x"}}).stop, std::vector<std::string>{"x"});
  EXPECT_EQ(parse({{"prompt", "a"}, {"max_tokens", 5.0}}).max_tokens, 5);
  const auto greedy = parse({{"prompt", "a"}, {"top_p", 0}});
  EXPECT_EQ(greedy.sampling.temperature, 0);
  EXPECT_EQ(greedy.sampling.top_p, 1);
}

TEST_F(Request, PromptsHaveFourForms) {
  const auto prompts = [&](const json& prompt) { return parse({{"prompt", prompt}}).prompts; };
  using Lists = std::vector<std::vector<int>>;
  EXPECT_EQ(prompts("a"), Lists{tokenizer_.encode("a")});
  EXPECT_EQ(prompts(json::parse(R"(["a","the"])")), (Lists{tokenizer_.encode("a"), tokenizer_.encode("the")}));
  EXPECT_EQ(prompts(json::parse("[7,8]")), (Lists{{7, 8}}));
  EXPECT_EQ(prompts(json::parse("[[7,8],[1,9]]")), (Lists{{7, 8}, {1, 9}}));
  EXPECT_EQ(prompts(""), Lists{{}});
  EXPECT_EQ(error_of("{}").param, "prompt");
  for (const std::string wrong :
       {"5", "true", "{}", "[]", "[null]", "[\"a\",true]", "[1,\"a\"]", "[0,320]", "[-1]", "[1.5]", "[[1,1e30]]", "[[[1]]]"}) {
    EXPECT_EQ(error_of("{\"prompt\":" + wrong + "}").param, "prompt") << wrong;
  }
}

TEST_F(Request, FieldsOutOfRangeAreNamed) {
  for (const json& value : {json(-1), json(101), json(1.5), json("5"), json(1e300)})
    expect_refused({{"max_tokens", value}}, "max_tokens");
  for (const json& value : {json(-0.1), json(101), json("hot")}) expect_refused({{"temperature", value}}, "temperature");
  for (const json& value : {json(-0.1), json(1.1)}) expect_refused({{"top_p", value}}, "top_p");
  expect_refused({{"top_k", -1}}, "top_k");
  for (const json& value : {json(-1), json(21), json(true)}) expect_refused({{"logprobs", value}}, "logprobs");
  for (const json& value : {json(5), json::parse("[1]"), json(std::vector<std::string>(17, "x"))})
    expect_refused({{"stop", value}}, "stop");
  expect_refused({{"echo", "yes"}}, "echo");
  expect_refused({{"stream", 1}}, "stream");
  expect_refused({{"seed", "x"}}, "seed");
  expect_refused({{"n", 5}}, "n");
}

TEST_F(Request, UnsupportedFeaturesAreRefused) {
  expect_refused({{"suffix", "end"}}, "suffix");
  expect_refused({{"best_of", 3}}, "best_of");
  expect_refused({{"presence_penalty", 0.5}}, "presence_penalty");
  expect_refused({{"frequency_penalty", -1}}, "frequency_penalty");
  expect_refused({{"logit_bias", {{"50", 1}}}}, "logit_bias");
}

TEST_F(Request, LimitsAreEnforced) {
  const auto prompt_of = [](int first, size_t length) {
    std::vector<int> ids(length, 9);
    ids[0] = first;
    return json{{"prompt", ids}};
  };
  EXPECT_EQ(parse(prompt_of(9, 15)).prompts[0].size(), 15u);
  EXPECT_EQ(parse(prompt_of(kBosId, 16)).prompts[0].size(), 16u);
  for (const auto& body : {prompt_of(9, 16), prompt_of(kBosId, 17)}) {
    const ApiError e = error_of(body.dump());
    EXPECT_EQ(e.status, 400);
    EXPECT_EQ(e.code, "context_length_exceeded");
  }
  EXPECT_EQ(error_of(R"({"prompt":["a","a","a"],"n":2})").param, "prompt");
  const ApiError other = error_of(R"({"prompt":"a","model":"gpt-4"})");
  EXPECT_EQ(other.status, 404);
  EXPECT_EQ(other.code, "model_not_found");
}

TEST_F(Request, BodiesThatAreNotObjects) {
  const std::string deep = "{\"prompt\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  for (const std::string& body : {std::string(), std::string("prompt=a"), std::string("[1]"), std::string("{\"prompt\":\"a\""),
                                  std::string("{\"prompt\":\"\xff\"}"), std::string("{\"temperature\":1e999}"), deep}) {
    EXPECT_EQ(error_of(body).status, 400);
  }
}

TEST_F(Request, TokenizeKnowsTheNamesOfBosAndEos) {
  const auto ids = [&](const json& body) { return parse_tokenize_request(body.dump(), tokenizer_); };
  EXPECT_EQ(ids({{"prompt", "<s>"}}), std::vector<int>{1});
  EXPECT_EQ(ids({{"prompt", "</s>"}, {"add_special_tokens", true}}), std::vector<int>{2});
  const auto plain = tokenizer_.encode("the river");
  EXPECT_EQ(ids({{"prompt", "the river"}, {"add_special_tokens", false}}), plain);
  auto with_bos = plain;
  with_bos.insert(with_bos.begin(), 1);
  EXPECT_EQ(ids({{"prompt", "the river"}, {"add_special_tokens", true}}), with_bos);
  EXPECT_THROW(parse_tokenize_request(R"({"prompt":[1]})", tokenizer_), ApiError);
  EXPECT_EQ(parse_detokenize_request(json{{"tokens", plain}}.dump(), tokenizer_), plain);
  EXPECT_THROW(parse_detokenize_request(R"({"tokens":[320]})", tokenizer_), ApiError);
  EXPECT_THROW(parse_detokenize_request("{}", tokenizer_), ApiError);
}

TEST_F(Request, SpecialIdsAreTheTokenizers) {
  const Tokenizer other(
      train_sentencepiece(
          normalized_texts(),
          {{"pad_id", "0"}, {"unk_id", "1"}, {"bos_id", "3"}, {"eos_id", "2"}, {"bos_piece", "<doc>"}, {"eos_piece", "</doc>"}}),
      "other.model");
  const auto ids = [&](const json& body) { return parse_tokenize_request(body.dump(), other); };
  EXPECT_EQ(ids({{"prompt", "<doc>"}}), std::vector<int>{3});
  EXPECT_EQ(ids({{"prompt", "</doc>"}}), std::vector<int>{2});
  EXPECT_EQ(ids({{"prompt", "<s>"}}), other.encode("<s>")) << "only text here";
  EXPECT_EQ(ids({{"prompt", "the"}, {"add_special_tokens", true}}).front(), 3);
  const auto prompt_of = [](int first) { return json{{"prompt", std::vector<int>{first, 9, 9, 9}}}.dump(); };
  const RequestLimits four{.context = 4, .max_tokens = 100, .max_choices = 4};
  EXPECT_EQ(parse_completion_request(prompt_of(3), "tiny", other, four).prompts[0].size(), 4u);
  EXPECT_THROW(parse_completion_request(prompt_of(1), "tiny", other, four), ApiError) << "BOS comes before it";
}

}  // namespace
}  // namespace pgolf::testing
