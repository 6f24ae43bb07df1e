#include "pgolf/model/generate.h"

#include <limits>
#include <set>

#include "pgolf/base/error.h"
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

TEST(Generate, GreedyTakesTheMostLikelyToken) {
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
  EXPECT_EQ(produced, generate(model, kPrompt, options_of(0.7, 1, 3), at::kCPU)) << "top-1 is greedy";
}

TEST(Generate, TheSeedDecidesTheSample) {
  Gpt model = make_random_model(talking_config());
  const auto first = generate(model, kPrompt, options_of(5.0, 0, 1), at::kCPU);
  EXPECT_EQ(first, generate(model, kPrompt, options_of(5.0, 0, 1), at::kCPU));
  EXPECT_NE(first, generate(model, kPrompt, options_of(5.0, 0, 2), at::kCPU));
}

TEST(Generate, SamplesOnlyFromTheTopK) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(talking_config());
  const auto scores = model->logits(torch::tensor(std::vector<int64_t>(kPrompt.begin(), kPrompt.end())).view({1, -1}))[0][5];
  const auto top3 = std::get<1>(scores.topk(3));
  for (int64_t seed = 1; seed <= 30; ++seed) {
    auto options = options_of(5.0, 3, seed);
    options.max_new_tokens = 1;
    for (const int id : generate(model, kPrompt, options, at::kCPU)) EXPECT_TRUE((top3 == id).any().item<bool>()) << id;
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

TEST(Generate, AFullContextIsReadAgainFromItsMiddle) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(talking_config());
  auto options = options_of(0, 50, 1);
  options.max_new_tokens = 20;
  options.context = 9;
  const auto produced = generate(model, kPrompt, options, at::kCPU);
  std::vector<int64_t> window(kPrompt.begin(), kPrompt.end());
  for (const int id : produced) {
    if (window.size() == 10) window.erase(window.begin(), window.end() - 4);
    const auto scores = model->logits(torch::tensor(window).view({1, -1}))[0][static_cast<int64_t>(window.size()) - 1];
    ASSERT_EQ(id, scores.argmax().item<int64_t>());
    window.push_back(id);
  }
  ASSERT_EQ(produced.size(), 20u);
}

TEST(Generate, WithAndWithoutTheCacheTheTextIsTheSame) {
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    ModelConfig config = talking_config();
    config.num_layers = 3;
    config.rope_dims = {4, 0, 8};
    Gpt model = make_random_model(config, 5, path);
    for (const int context : {1, 2, 7, 64, 200}) {
      auto options = options_of(1.0, 20, 4);
      options.max_new_tokens = 90;
      options.context = context;
      const auto cached = generate(model, kPrompt, options, at::kCPU);
      options.kv_cache = false;
      EXPECT_EQ(cached, generate(model, kPrompt, options, at::kCPU)) << "context " << context;
    }
  }
}

TEST(Generate, StopsWhenTheCallbackReturnsFalse) {
  Gpt model = make_random_model(talking_config());
  std::vector<int> shown;
  const auto produced = generate(model, kPrompt, options_of(5.0, 0, 1), at::kCPU, [&](int id) {
    shown.push_back(id);
    return shown.size() < 3;
  });
  EXPECT_EQ(produced.size(), 3u);
  EXPECT_EQ(shown, produced);
}

TEST(Sampler, TopPKeepsTheMostLikelyThatReachIt) {
  const auto logits = at::log(at::tensor({0.1, 0.4, 0.2, 0.3})).to(at::kFloat);
  const auto drawn = [&](double p, int k) {
    std::set<int> ids;
    Sampler sampler({.temperature = 1, .top_k = k, .top_p = p, .seed = 3});
    for (int i = 0; i < 300; ++i) ids.insert(sampler.next(logits));
    return ids;
  };
  EXPECT_EQ(drawn(1, 0), (std::set<int>{0, 1, 2, 3}));
  EXPECT_EQ(drawn(0.8, 0), (std::set<int>{1, 2, 3})) << "0.4 + 0.3 is not enough";
  EXPECT_EQ(drawn(0.65, 0), (std::set<int>{1, 3}));
  EXPECT_EQ(drawn(0.01, 0), (std::set<int>{1}));
  EXPECT_EQ(drawn(0.5, 2), (std::set<int>{1})) << "within the top 2 it has 4/7";
  EXPECT_EQ(drawn(1e-46, 0), (std::set<int>{1})) << "0 in float32";
}

// Logits of a product in bfloat16 are often equal.
TEST(Sampler, TopKKeepsKOfTies) {
  const auto logits = at::tensor({2.0, 1.0, 2.0, 2.0, 0.0}).to(at::kFloat);
  for (const int k : {1, 2, 4}) {
    std::set<int> ids;
    Sampler sampler({.temperature = 1, .top_k = k, .top_p = 1, .seed = 3});
    for (int i = 0; i < 300; ++i) ids.insert(sampler.next(logits));
    EXPECT_EQ(ids.size(), static_cast<size_t>(k));
    EXPECT_EQ(ids.count(1), k == 4 ? 1u : 0u);
  }
}

TEST(Sampler, LogitsThatAreNotFiniteAreAnError) {
  for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const double temperature : {0.0, 1.0}) {
      Sampler sampler({.temperature = temperature, .top_k = 0, .top_p = 1, .seed = 3});
      EXPECT_THROW(sampler.next(at::tensor({0.0f, wrong, 1.0f})), Error);
    }
  }
}

TEST(Sampler, ExtremeTemperaturesMeanWhatTheySay) {
  for (const float scale : {1.0f, 1e30f}) {
    const auto logits = at::tensor({0.0f, -scale, scale, 2 * scale});
    for (const double temperature : {1e-300, 1e-40, 1.01 * kGreedyBelow}) {
      Sampler sampler({.temperature = temperature, .top_k = 0, .top_p = 1, .seed = 3});
      for (int i = 0; i < 20; ++i) EXPECT_EQ(sampler.next(logits), 3) << temperature;
    }
  }
  std::set<int> ids;
  Sampler sampler({.temperature = kMaxTemperature, .top_k = 3, .top_p = 1, .seed = 3});
  for (int i = 0; i < 100; ++i) ids.insert(sampler.next(at::tensor({0.0f, -1.0f, 1.0f, 2.0f})));
  EXPECT_EQ(ids, (std::set<int>{0, 2, 3}));
}

TEST(Sampler, TopPOfOneChangesNothing) {
  const auto logits = random_ids(1, 48, 9, 3)[0].to(at::kFloat);
  Sampler plain({.temperature = 2, .top_k = 0, .top_p = 1, .seed = 3}),
      nearly({.temperature = 2, .top_k = 0, .top_p = 0.999999, .seed = 3});
  for (int i = 0; i < 50; ++i) EXPECT_EQ(plain.next(logits), nearly.next(logits));
}

TEST(Generate, EndsBeforeTheNextDocument) {
  torch::NoGradGuard no_grad;
  ModelConfig config = talking_config();
  config.vocab_size = config.model_dim;
  config.tie_embeddings = false;
  Gpt model = make_random_model(config);
  // With the identity as head the logits are the features; a head row along them makes BOS certain.
  model->lm_head->weight.copy_(torch::eye(config.model_dim));
  const std::vector<int64_t> ids{1, 7, 30, 12};
  const auto features = model->logits(torch::tensor(ids).view({1, -1}))[0][3].clone();
  model->lm_head->weight.zero_();
  model->lm_head->weight[1].copy_(features.sign());
  auto options = options_of(0, 50, 1);
  EXPECT_FALSE(generate(model, {1, 7, 30, 12}, options, at::kCPU).empty()) << "no id ends a text by itself";
  options.ends = {2, 1};
  EXPECT_TRUE(generate(model, {1, 7, 30, 12}, options, at::kCPU).empty());
}

}  // namespace
}  // namespace pgolf::testing
