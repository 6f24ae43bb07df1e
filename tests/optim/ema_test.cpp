#include "pgolf/optim/ema.h"

#include "support/models.h"

namespace pgolf::testing {
namespace {

TEST(WeightAverage, FollowsTheFormulaInFloat32WhateverTheDtype) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Gpt model = make_random_model(tiny_config());
    set_parameter_precision(model, dtype, OptimConfig().control_patterns);
    WeightAverage average(model, 0.75);
    std::vector<at::Tensor> expected;
    for (const auto& [name, tensor] : state_dict(model)) expected.push_back(tensor.to(at::kDouble).clone());
    EXPECT_EQ(average.state().size(), expected.size()) << "every parameter";
    for (int step = 0; step < 5; ++step) {
      torch::NoGradGuard no_grad;
      size_t i = 0;
      for (auto& parameter : model->parameters()) {
        parameter.add_(torch::randn_like(parameter));
        expected[i] = 0.75 * expected[i] + 0.25 * parameter.to(at::kDouble);
        ++i;
      }
      average.update();
    }
    const StateDict state = average.state(), weights = state_dict(model);
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(state[i].first, "ema." + weights[i].first);
      EXPECT_EQ(state[i].second.scalar_type(), at::kFloat);
      EXPECT_LE(distance(state[i].second, expected[i]), 2e-6) << state[i].first;
    }
    average.copy_to_model();
    const StateDict averaged = state_dict(model);
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(averaged[i].second.scalar_type(), weights[i].second.scalar_type());
      EXPECT_TRUE(at::equal(averaged[i].second, state[i].second.to(averaged[i].second.scalar_type()))) << averaged[i].first;
    }
    EXPECT_EQ(averaged[1].second.scalar_type(), dtype) << "the embedding";
  }
}

TEST(WeightAverage, BeginsWithTheWeightsAndHasNoneWithoutDecay) {
  Gpt model = make_random_model(tiny_config());
  const StateDict before = clone_state(state_dict(model));
  WeightAverage average(model, 0.9), none(model, 0);
  {
    torch::NoGradGuard no_grad;
    for (auto& parameter : model->parameters()) parameter.zero_();
  }
  EXPECT_FALSE(none.enabled());
  EXPECT_TRUE(none.state().empty());
  none.update();
  none.copy_to_model();
  EXPECT_EQ(model->tok_emb->weight.abs().max().item<float>(), 0);
  average.copy_to_model();
  expect_same_tensors(state_dict(model), before);
  {
    torch::NoGradGuard no_grad;
    model->tok_emb->weight.fill_(2);
  }
  average.restart();
  for (const auto& [name, tensor] : average.state()) {
    if (name == "ema.tok_emb.weight") {
      EXPECT_TRUE(at::equal(tensor, model->tok_emb->weight));
    }
  }
}

TEST(WeightAverage, TheFastPathSeesTheAveragedWeights) {
  ModelConfig config = tiny_config();
  config.vocab_size = 64;
  Gpt model = make_random_model(config, 5, OpsPath::fast);
  const auto ids = random_ids(2, 40, config.vocab_size);
  WeightAverage average(model, 0.5);
  at::NoGradGuard no_grad;
  const auto before = model->logits(ids);
  for (auto& parameter : model->parameters()) parameter.mul_(0.5);
  EXPECT_FALSE(at::equal(model->logits(ids), before));
  average.copy_to_model();
  EXPECT_TRUE(at::equal(model->logits(ids), before));
}

}  // namespace
}  // namespace pgolf::testing
