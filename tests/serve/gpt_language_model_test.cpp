#include "pgolf/serve/gpt_language_model.h"

#include "pgolf/eval/likelihood.h"
#include "pgolf/model/generate.h"
#include "support/dataset.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

TEST(GptLanguageModel, ScoresPromptsAsLikelihoodsDoes) {
  Gpt gpt = make_random_model(tiny_config());
  const std::vector<TextPair> pairs{{{7, 30, 12}, {5, 9}}, {{7}, {30, 12, 5, 9, 11}}};
  const auto expected = likelihoods(gpt, pairs, 16, 1, at::kCPU);
  const auto model = make_language_model(gpt, 16, 1, at::kCPU);
  for (size_t i = 0; i < pairs.size(); ++i) {
    auto ids = pairs[i].context;
    ids.insert(ids.end(), pairs[i].continuation.begin(), pairs[i].continuation.end());
    const auto scores = model->begin(ids, {})->score_prompt(1);
    ASSERT_EQ(scores.size(), ids.size());
    double sum = 0;
    for (size_t k = pairs[i].context.size(); k < ids.size(); ++k) sum += scores[k].log_prob;
    EXPECT_EQ(sum, expected[i].log_prob);  // every bit
  }
}

TEST(GptLanguageModel, BosOfTheClientHasNoScore) {
  Gpt gpt = make_random_model(tiny_config());
  const auto model = make_language_model(gpt, 16, 1, at::kCPU);
  const auto with = model->begin({1, 7, 30}, {})->score_prompt(2), without = model->begin({7, 30}, {})->score_prompt(2);
  ASSERT_EQ(with.size(), 3u);
  EXPECT_FALSE(with[0].known);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(without[i].known);
    EXPECT_EQ(with[i + 1].log_prob, without[i].log_prob);
    ASSERT_EQ(without[i].top.size(), 2u);
    EXPECT_GE(without[i].top[0].second, without[i].top[1].second);
    EXPECT_GE(without[i].top[0].second, without[i].log_prob);
  }
  EXPECT_TRUE(model->begin({}, {})->score_prompt(0).empty());
}

TEST(GptLanguageModel, DrawsAsGenerateDoes) {
  Gpt gpt = make_random_model(tiny_config());
  GenerateOptions options;
  options.context = 8;  // the text outgrows it
  options.max_new_tokens = 20;
  options.seed = 3;
  options.temperature = 1.3;
  options.top_p = 0.9;
  const auto expected = generate(gpt, {1, 7, 30}, options, at::kCPU);
  const auto text = make_language_model(gpt, 8, 1, at::kCPU)->begin({7, 30}, options);
  for (const int id : expected) EXPECT_EQ(text->next(0).id, id);
  ASSERT_GT(expected.size(), 10u);
}

TEST(GptLanguageModel, ScoringFirstChangesNothingOfWhatIsDrawn) {
  Gpt gpt = make_random_model(tiny_config());
  const auto model = make_language_model(gpt, 16, 1, at::kCPU);
  SamplingOptions greedy;
  greedy.temperature = 0;
  const auto plain = model->begin({7, 30}, greedy), scored = model->begin({7, 30}, greedy);
  scored->score_prompt(1);
  for (int i = 0; i < 6; ++i) {
    const TokenScore a = plain->next(1), b = scored->next(1);
    EXPECT_EQ(a.id, b.id);
    EXPECT_NEAR(a.log_prob, b.log_prob, 1e-5);
    EXPECT_EQ(a.id, a.top[0].first);
  }
}

}  // namespace
}  // namespace pgolf::testing
