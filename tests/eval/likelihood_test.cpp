#include "pgolf/eval/likelihood.h"

#include <cmath>

#include "support/dataset.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

/// log softmax(logits of `given`, a text as the model reads it)[next], in float64 and by hand.
double log_prob_by_hand(Gpt& model, const std::vector<int64_t>& given, int next) {
  torch::NoGradGuard no_grad;
  const auto logits = model->logits(torch::tensor(given).view({1, -1}))[0][static_cast<int64_t>(given.size()) - 1];
  double sum = 0;
  for (int64_t i = 0; i < logits.size(0); ++i) sum += std::exp(logits[i].item<double>());
  return logits[next].item<double>() - std::log(sum);
}

TEST(ModelInput, BeginsWithBosAndKeepsTheEnd) {
  const std::vector<int> ids{7, 8, 9};
  EXPECT_EQ(model_input(ids, 8, 1), (std::vector<int64_t>{1, 7, 8, 9}));
  EXPECT_EQ(model_input(ids, 4, 1), (std::vector<int64_t>{1, 7, 8, 9}));
  EXPECT_EQ(model_input(ids, 3, 1), (std::vector<int64_t>{1, 8, 9}));
  EXPECT_EQ(model_input({}, 3, 1), (std::vector<int64_t>{1}));
  EXPECT_EQ(model_input(ids, 8, 7), (std::vector<int64_t>{7, 8, 9})) << "they begin with that BOS";
  const std::vector<int> with_bos{1, 8, 9};
  EXPECT_EQ(model_input(with_bos, 3, 1), (std::vector<int64_t>{1, 8, 9}));
  EXPECT_EQ(model_input(with_bos, 2, 1), (std::vector<int64_t>{1, 9}));
}

TEST(Likelihoods, AreSumsOfLogProbabilities) {
  Gpt model = make_random_model(tiny_config());
  const std::vector<TextPair> pairs{{{7, 30, 12}, {5, 9}}, {{}, {40}}, {{7, 30, 12, 5}, {9}}};
  const auto results = likelihoods(model, pairs, 16, 1, at::kCPU);
  ASSERT_EQ(results.size(), 3u);
  EXPECT_NEAR(results[0].log_prob, log_prob_by_hand(model, {1, 7, 30, 12}, 5) + log_prob_by_hand(model, {1, 7, 30, 12, 5}, 9),
              1e-5);
  EXPECT_NEAR(results[1].log_prob, log_prob_by_hand(model, {1}, 40), 1e-5);
  EXPECT_NEAR(results[2].log_prob, log_prob_by_hand(model, {1, 7, 30, 12, 5}, 9), 1e-5);
  for (const auto& result : results) EXPECT_FALSE(result.truncated);
}

TEST(Likelihoods, LongContextsAreTruncatedAtTheBeginning) {
  Gpt model = make_random_model(tiny_config());
  const std::vector<TextPair> pairs{{{7, 30, 12, 5}, {9}}};
  const auto fits = likelihoods(model, pairs, 6, 1, at::kCPU)[0], cut = likelihoods(model, pairs, 5, 1, at::kCPU)[0];
  EXPECT_FALSE(fits.truncated);
  EXPECT_TRUE(cut.truncated);
  EXPECT_NEAR(cut.log_prob, log_prob_by_hand(model, {1, 30, 12, 5}, 9), 1e-5);
  EXPECT_NE(cut.log_prob, fits.log_prob);
  expect_error(ExitCode::bad_input, {"1 tokens", "context of 1"}, [&] { likelihoods(model, pairs, 1, 1, at::kCPU); });
  const std::vector<TextPair> nothing{{{7}, {}}};
  expect_error(ExitCode::bad_input, {"0 tokens"}, [&] { likelihoods(model, nothing, 16, 1, at::kCPU); });
}

TEST(Likelihoods, GreedyMeansEveryTokenIsTheMostLikely) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(tiny_config());
  std::vector<int64_t> text{1, 7, 30};
  std::vector<int> greedy;
  for (int i = 0; i < 3; ++i) {
    const auto logits = model->logits(torch::tensor(text).view({1, -1}))[0][static_cast<int64_t>(text.size()) - 1];
    greedy.push_back(static_cast<int>(logits.argmax().item<int64_t>()));
    text.push_back(greedy.back());
  }
  auto other = greedy;
  other[1] = other[1] == 20 ? 21 : 20;
  const std::vector<TextPair> pairs{{{7, 30}, greedy}, {{7, 30}, other}};
  const auto results = likelihoods(model, pairs, 16, 1, at::kCPU);
  EXPECT_TRUE(results[0].greedy);
  EXPECT_FALSE(results[1].greedy);
}

TEST(Likelihoods, DoNotDependOnOtherTexts) {
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    Gpt model = make_random_model(tiny_config(), 5, path);
    std::vector<TextPair> pairs;
    for (int i = 0; i < 9; ++i) {
      TextPair pair{{}, {2 + i, 40 - i}};
      for (int k = 0; k < i; ++k) pair.context.push_back(3 + (7 * k + i) % 40);
      pairs.push_back(pair);
    }
    const auto together = likelihoods(model, pairs, 32, 1, at::kCPU);
    for (size_t i = 0; i < pairs.size(); ++i)
      EXPECT_EQ(likelihoods(model, {&pairs[i], 1}, 32, 1, at::kCPU)[0].log_prob, together[i].log_prob) << i;
  }
}

TEST(Likelihoods, NanLogitsAreAnError) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(tiny_config());
  model->tok_emb->weight.fill_(std::nan(""));
  const std::vector<TextPair> pairs{{{7}, {5}}};
  expect_error(ExitCode::non_finite, {}, [&] { likelihoods(model, pairs, 16, 1, at::kCPU); });
}

TEST(EncodePair, SplitsTheWholeTextWhereTheContextEnds) {
  const Tokenizer tokenizer(Dataset::get().tokenizer_path());
  const auto joined = [](const TextPair& pair) {
    auto ids = pair.context;
    ids.insert(ids.end(), pair.continuation.begin(), pair.continuation.end());
    return ids;
  };
  const auto pair = encode_pair(tokenizer, "the river walks", " over the bridge");
  EXPECT_EQ(pair.context, tokenizer.encode("the river walks"));
  EXPECT_EQ(joined(pair), tokenizer.encode("the river walks over the bridge"));
  EXPECT_FALSE(pair.continuation.empty());
  // White space at the end of the context moves to the continuation, also beyond ASCII.
  for (const char* context : {"the river walks ", "the river walks\n", "the river walks \t\n", "the river walks\u00a0\u3000"}) {
    const auto same = encode_pair(tokenizer, context, "over the bridge");
    EXPECT_EQ(same.context, pair.context) << context;
    EXPECT_EQ(same.continuation, pair.continuation) << context;
  }
  const auto first = encode_pair(tokenizer, "", "the river");
  EXPECT_TRUE(first.context.empty());
  EXPECT_EQ(first.continuation, tokenizer.encode("the river"));
  EXPECT_TRUE(encode_pair(tokenizer, "the river", " \n").continuation.empty());
}

}  // namespace
}  // namespace pgolf::testing
