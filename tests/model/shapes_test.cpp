// The plain shapes: what each option of a block changes, and what it leaves alone.
#include <cmath>
#include <functional>

#include "support/models.h"

namespace pgolf::testing {
namespace {

bool has(const StateDict& state, const std::string& name) {
  const auto names = names_of(state);
  return std::find(names.begin(), names.end(), name) != names.end();
}

TEST(MlpKinds, FollowTheirFormulas) {
  const auto relu = [](double u) { return std::max(u, 0.0); };
  const auto leaky = [](double u) { return u < 0 ? 0.3 * u : u; };
  const std::map<MlpKind, std::function<double(double)>> formulas{
      {MlpKind::relu2, [&](double u) { return relu(u) * relu(u); }},
      {MlpKind::relu3, [&](double u) { return relu(u) * relu(u) * relu(u); }},
      {MlpKind::leaky_relu, leaky},
      {MlpKind::leaky_relu2, [&](double u) { return leaky(u) * leaky(u); }},
      {MlpKind::gelu, [](double u) { return 0.5 * u * (1 + std::erf(u / std::sqrt(2.0))); }}};
  const auto x = at::randn({2, 7, 32}, at::make_generator<at::CPUGeneratorImpl>(3)) * 2;
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    for (const auto& [kind, formula] : formulas) {
      ModelConfig config = tiny_config();
      config.mlp_kind = kind;
      config.mlp_leaky_slope = 0.3;
      Gpt model = make_random_model(config, 5, path);
      auto& mlp = model->blocks[0]->mlp;
      auto hidden = at::linear(x, mlp->fc->weight).detach().to(at::kDouble).contiguous();
      for (int64_t i = 0; i < hidden.numel(); ++i)
        hidden.mutable_data_ptr<double>()[i] = formula(hidden.const_data_ptr<double>()[i]);
      const auto expected = at::linear(hidden, mlp->proj->weight.to(at::kDouble));
      EXPECT_LE(distance(mlp(x), expected), 1e-5 * expected.abs().max().item<double>()) << static_cast<int>(kind);
    }
    ModelConfig config = tiny_config();
    config.mlp_kind = MlpKind::swiglu;
    Gpt model = make_random_model(config, 5, path);
    auto& mlp = model->blocks[0]->mlp;
    const auto gate = at::linear(x, mlp->gate->weight), up = at::linear(x, mlp->fc->weight);
    const auto expected = at::linear(gate / (1 + at::exp(-gate)) * up, mlp->proj->weight);
    EXPECT_LE(distance(mlp(x), expected), 1e-5 * expected.abs().max().item<double>());
  }
}

TEST(Shapes, EveryOneHasTheParametersOfTheFormula) {
  const std::vector<std::function<void(ModelConfig&)>> changes{[](ModelConfig& c) { c.mlp_kind = MlpKind::swiglu; },
                                                               [](ModelConfig& c) { c.mlp_kind = MlpKind::gelu; },
                                                               [](ModelConfig& c) { c.norm_weights = true; },
                                                               [](ModelConfig& c) { c.unet_skips = false; },
                                                               [](ModelConfig& c) { c.resid_mix = false; },
                                                               [](ModelConfig& c) { c.parallel_block = c.norm_weights = true; },
                                                               [](ModelConfig& c) { c.qk_norm = false; },
                                                               [](ModelConfig& c) { c.logit_softcap = 0; }};
  for (size_t i = 0; i < changes.size(); ++i) {
    ModelConfig config = tiny_config();
    config.num_layers = 3;
    changes[i](config);
    Gpt model = make_model(config);
    int64_t count = 0;
    for (const auto& [name, tensor] : state_dict(model)) count += tensor.numel();
    EXPECT_EQ(count, config.parameter_count()) << "change " << i;
  }
}

TEST(Shapes, TensorsAreThereOnlyWhereTheyAreUsed) {
  ModelConfig config = tiny_config();
  Gpt plain = make_model(config);
  for (const char* name :
       {"blocks.0.mlp.gate.weight", "blocks.1.attn_norm.weight", "blocks.1.mlp_norm.weight", "final_norm.weight"})
    EXPECT_FALSE(has(state_dict(plain), name)) << name;
  config.mlp_kind = MlpKind::swiglu;
  config.norm_weights = true;
  config.unet_skips = config.resid_mix = false;
  Gpt llama = make_model(config);
  for (const char* name :
       {"blocks.0.mlp.gate.weight", "blocks.1.attn_norm.weight", "blocks.1.mlp_norm.weight", "final_norm.weight"})
    EXPECT_TRUE(has(state_dict(llama), name)) << name;
  for (const char* name : {"blocks.0.resid_mix", "skip_weights"}) EXPECT_FALSE(has(state_dict(llama), name)) << name;
  config.parallel_block = true;
  Gpt pythia = make_model(config);
  EXPECT_FALSE(has(state_dict(pythia), "blocks.0.mlp_norm.weight")) << "a parallel block has one norm";
  const auto paths = upstream_module_paths(config);
  EXPECT_EQ(std::count(paths.begin(), paths.end(), "blocks.1.mlp.gate"), 1);
}

TEST(Shapes, WithoutMixAndSkipsABlockSeesOnlyTheOneBefore) {
  ModelConfig config = tiny_config();
  config.num_layers = 4;
  config.unet_skips = config.resid_mix = false;
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    Gpt model = make_random_model(config, 5, path);
    const auto ids = random_ids(2, 9, 48);
    auto x = at::rms_norm(model->tok_emb(ids), {32});
    const auto nothing = torch::zeros_like(x);
    for (auto& block : model->blocks) x = block(x, nothing);
    const auto expected = 30 * at::tanh(at::linear(at::rms_norm(x, {32}), model->tok_emb->weight) / 30);
    EXPECT_LE(distance(model->logits(ids), expected), 1e-4);
  }
}

TEST(Shapes, NormWeightsScaleWhatTheBranchesAndTheHeadRead) {
  ModelConfig config = tiny_config();
  config.norm_weights = true;
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    // Doubling a norm's weight and halving every matrix that reads it changes nothing.
    Gpt model = make_random_model(config, 5, path);
    const auto ids = random_ids(2, 9, 48);
    torch::NoGradGuard no_grad;
    const auto before = model->logits(ids);
    auto& block = model->blocks[1];
    block->attn_norm->weight.mul_(2);
    EXPECT_GT(distance(model->logits(ids), before), 1e-3);
    for (auto* matrix : {&block->attn->c_q, &block->attn->c_k, &block->attn->c_v}) (*matrix)->weight.mul_(0.5);
    EXPECT_LE(distance(model->logits(ids), before), 1e-4);
    block->mlp_norm->weight.mul_(4);
    EXPECT_GT(distance(model->logits(ids), before), 1e-3);
    block->mlp->fc->weight.mul_(0.25);
    EXPECT_LE(distance(model->logits(ids), before), 1e-4);
    model->final_norm->weight.mul_(0);
    EXPECT_EQ(model->logits(ids).abs().max().item<float>(), 0);
  }
}

TEST(Shapes, WithoutASoftCapLogitsAreTheProducts) {
  ModelConfig config = tiny_config();
  const auto ids = random_ids(2, 9, 48);
  const auto capped = make_random_model(config)->logits(ids);
  config.logit_softcap = 0;
  Gpt model = make_random_model(config);
  const auto logits = model->logits(ids);
  EXPECT_LE(distance(30 * at::tanh(logits / 30), capped), 1e-5);
  const auto expected = at::cross_entropy_loss(logits.view({-1, 48}), ids.view(-1)).item<double>();
  EXPECT_NEAR(model(ids, ids).item<double>(), expected, 1e-5);
}

TEST(Shapes, InitStdDrawsEveryMatrixAndLeavesTheRest) {
  ModelConfig config = tiny_config();
  config.tie_embeddings = false;
  config.norm_weights = true;
  config.init_std = 0.03;
  Gpt model = make_model(config, 7);
  for (const auto& [name, tensor] : state_dict(model)) {
    if (name.ends_with(".weight") && tensor.dim() == 2) {
      EXPECT_NEAR(tensor.std().item<double>(), 0.03, 0.003) << name;
    }
  }
  EXPECT_TRUE(at::equal(model->final_norm->weight, torch::ones({32})));
  EXPECT_TRUE(at::equal(model->skip_weights, torch::ones({1, 32})));
  config.rope_dims = 2;
  Gpt partial = make_model(config, 7);
  expect_same_tensors(state_dict(partial), state_dict(model));
}

}  // namespace
}  // namespace pgolf::testing
