#include "pgolf/model/token_extras.h"

#include "support/models.h"

namespace pgolf::testing {
namespace {

TEST(BigramRows, AreTheHashOfATokenAndTheOneBefore) {
  const auto ids = at::tensor({5, 7, 0, 59'137, 59'137, 5}, at::kLong).view({2, 3});
  const auto rows = bigram_rows(ids, 100);
  const auto hash = [](int64_t token, int64_t before) { return ((36'313 * token) ^ (27'191 * before)) % 99; };
  EXPECT_TRUE(at::equal(
      rows, at::tensor({int64_t{99}, hash(7, 5), hash(0, 7), int64_t{99}, hash(59'137, 59'137), hash(5, 59'137)}).view({2, 3})));
  EXPECT_TRUE(at::equal(bigram_rows(ids.narrow(1, 0, 1), 100), at::full({2, 1}, 99, at::kLong)));
  EXPECT_LT(int64_t{36'313} * (kMaxBigramVocabSize - 1), int64_t{1} << 31) << "the record program computes in 32 bits";
}

TEST(SmearGate, MixesWithThePositionBefore) {
  torch::NoGradGuard no_grad;
  const auto x = torch::randn({2, 4, 8});
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    SmearGate smear(8);
    auto half = x / 2;
    half.narrow(1, 1, 3) += x.narrow(1, 0, 3) / 2;
    EXPECT_LT(distance(smear(x, path), half), 1e-6);
    smear->gate.fill_(-std::numeric_limits<float>::infinity());
    EXPECT_TRUE(at::equal(smear(x, path), x)) << "a closed gate";
  }
}

TEST(ScaledEmbedding, ProjectsUnlessItIsAsWide) {
  torch::NoGradGuard no_grad;
  const auto rows = random_ids(2, 3, 10);
  ScaledEmbedding narrow(10, 4, 6, 0.5), wide(10, 6, 6, 0.5);
  EXPECT_LT(distance(narrow(rows, OpsPath::reference), at::linear(narrow->embed(rows), narrow->proj->weight) * 0.5), 1e-6);
  EXPECT_TRUE(wide->proj.is_empty());
  EXPECT_TRUE(at::equal(wide(rows, OpsPath::fast), wide->embed(rows) * 0.5));
}

TEST(TokenExtras, AModelWithoutThemIsTheModelWithThemAtRest) {
  torch::NoGradGuard no_grad;
  ModelConfig plain = tiny_config(), config = plain;
  config.smear_gate = true;
  config.bigram_vocab_size = 20, config.bigram_dim = 32;
  config.ve_layers = {0, 1}, config.ve_dim = 8;
  Gpt source = make_random_model(plain), model = make_random_model(config);
  auto parameters = model->named_parameters();
  for (const auto& [name, tensor] : state_dict(source)) parameters[name].copy_(tensor);
  model->smear->gate.fill_(-std::numeric_limits<float>::infinity());
  model->bigram->scale.zero_();
  model->ve_layer_scales->at(0).zero_();
  model->ve_layer_scales->at(1).zero_();
  const auto ids = random_ids(2, 12, 48);
  EXPECT_TRUE(at::equal(model->logits(ids), source->logits(ids)));
  model->ve_layer_scales->at(1).fill_(1);
  EXPECT_FALSE(at::equal(model->logits(ids), source->logits(ids)));
}

}  // namespace
}  // namespace pgolf::testing
