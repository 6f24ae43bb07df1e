#include "pgolf/eval/generate.h"

#include "support/models.h"

namespace pgolf::testing {
namespace {

ModelConfig talking_config() {
  ModelConfig config = tiny_config();
  config.tied_embed_init_std = 0.3;
  return config;
}

const std::vector<int> kPrompt{1, 7, 30, 12, 5, 9};

GenerateOptions options_of(double temperature, int top_k, int64_t seed) {
  GenerateOptions options;
  options.max_new_tokens = 12;
  options.temperature = temperature;
  options.top_k = top_k;
  options.seed = seed;
  return options;
}

TEST(Generate, GreedyIsTheLikeliestTokenEachTime) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(talking_config());
  const auto produced = generate(model, kPrompt, options_of(0, 50, 1), at::kCPU);
  std::vector<int64_t> ids(kPrompt.begin(), kPrompt.end());
  for (const int id : produced) {
    const auto scores = model->logits(torch::tensor(ids).view({1, -1}))[0][static_cast<int64_t>(ids.size()) - 1];
    EXPECT_EQ(id, scores.argmax().item<int64_t>());
    ids.push_back(id);
  }
  EXPECT_EQ(produced, generate(model, kPrompt, options_of(0, 50, 2), at::kCPU)) << "no seed matters";
  EXPECT_EQ(produced, generate(model, kPrompt, options_of(0.7, 1, 3), at::kCPU)) << "the likeliest of one";
}

TEST(Generate, TheSeedDecidesTheSample) {
  Gpt model = make_random_model(talking_config());
  const auto first = generate(model, kPrompt, options_of(5.0, 0, 1), at::kCPU);
  EXPECT_EQ(first, generate(model, kPrompt, options_of(5.0, 0, 1), at::kCPU));
  EXPECT_NE(first, generate(model, kPrompt, options_of(5.0, 0, 2), at::kCPU));
}

TEST(Generate, SamplesOnlyAmongTheLikeliest) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(talking_config());
  const auto scores = model->logits(torch::tensor(std::vector<int64_t>(kPrompt.begin(), kPrompt.end())).view({1, -1}))[0][5];
  const auto likeliest = std::get<1>(scores.topk(3));
  for (int64_t seed = 1; seed <= 30; ++seed) {
    auto options = options_of(5.0, 3, seed);
    options.max_new_tokens = 1;
    for (const int id : generate(model, kPrompt, options, at::kCPU)) EXPECT_TRUE((likeliest == id).any().item<bool>()) << id;
  }
}

TEST(Generate, LengthIsLimited) {
  Gpt model = make_model(talking_config());
  for (const int length : {0, 1, 5}) {
    auto options = options_of(0, 50, 1);
    options.max_new_tokens = length;
    EXPECT_LE(generate(model, kPrompt, options, at::kCPU).size(), static_cast<size_t>(length));
  }
}

TEST(Generate, SeesOnlyTheLastTokensOfTheContext) {
  Gpt model = make_random_model(talking_config());
  auto options = options_of(0, 50, 1);
  options.max_new_tokens = 8;
  options.context = 4;
  const std::vector<int> tail(kPrompt.end() - 4, kPrompt.end());
  std::vector<int> other{3, 40, 41, 2};
  other.insert(other.end(), tail.begin(), tail.end());
  const auto produced = generate(model, kPrompt, options, at::kCPU);
  EXPECT_EQ(produced, generate(model, tail, options, at::kCPU));
  EXPECT_EQ(produced, generate(model, other, options, at::kCPU));
}

TEST(Generate, EndsBeforeTheNextDocument) {
  torch::NoGradGuard no_grad;
  ModelConfig config = talking_config();
  config.vocab_size = config.model_dim;
  config.tie_embeddings = false;
  Gpt model = make_random_model(config);
  // With the identity as head the logits tell the features; a head row that points along them makes BOS certain.
  model->lm_head->weight.copy_(torch::eye(config.model_dim));
  const std::vector<int64_t> ids{1, 7, 30, 12};
  const auto features = model->logits(torch::tensor(ids).view({1, -1}))[0][3].clone();
  model->lm_head->weight.zero_();
  model->lm_head->weight[1].copy_(features.sign());
  EXPECT_TRUE(generate(model, {1, 7, 30, 12}, options_of(0, 50, 1), at::kCPU).empty());
}

}  // namespace
}  // namespace pgolf::testing
