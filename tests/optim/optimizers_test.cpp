#include "pgolf/optim/optimizers.h"

#include "pgolf/base/format.h"
#include "support/files.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

const std::vector<std::string>& usual_patterns() {
  static const OptimConfig config;
  return config.control_patterns;
}

at::Tensor leaf(at::IntArrayRef shape, int64_t seed, at::ScalarType dtype = at::kFloat) {
  torch::manual_seed(static_cast<uint64_t>(seed));
  return torch::randn(shape).to(dtype).requires_grad_();
}

class AdamWithDecay : public ::testing::TestWithParam<double> {};

TEST_P(AdamWithDecay, FollowsTheFormulaInFloat64) {
  const double decay = GetParam();
  OptimConfig config;
  config.beta1 = 0.8;
  config.beta2 = 0.97;
  config.adam_eps = 1e-3;
  const auto parameter = leaf({5, 3}, 1);
  Adam adam({{"p", parameter}}, /*base_lr=*/0.02, config, decay);
  auto value = parameter.detach().to(at::kDouble).clone();
  auto m = torch::zeros_like(value), v = torch::zeros_like(value);
  for (int t = 1; t <= 8; ++t) {
    const auto gradient = torch::randn({5, 3}) * t;
    parameter.mutable_grad() = gradient;
    const double scale = 1.0 / t;
    adam.schedule(scale);
    adam.step();
    const auto g = gradient.to(at::kDouble);
    m = config.beta1 * m + (1 - config.beta1) * g;
    v = config.beta2 * v + (1 - config.beta2) * g * g;
    const auto m_hat = m / (1 - std::pow(config.beta1, t)), v_hat = v / (1 - std::pow(config.beta2, t));
    value = value * (1 - 0.02 * scale * decay) - 0.02 * scale * m_hat / (v_hat.sqrt() + config.adam_eps);
    EXPECT_LT(distance(parameter, value), 2e-6) << "step " << t;
  }
  const StateDict state = adam.state();
  EXPECT_EQ(names_of(state), (std::vector<std::string>{"adam.exp_avg.p", "adam.exp_avg_sq.p", "adam.step.p"}));
  EXPECT_LT(distance(state[0].second, m), 1e-5);
  EXPECT_LT(distance(state[1].second, v), 1e-4);
  EXPECT_EQ(state[2].second.item<float>(), 8);
}

INSTANTIATE_TEST_SUITE_P(Adam, AdamWithDecay, ::testing::Values(0.0, 0.3));

TEST(Adam, Bfloat16ParametersKeepTheirDtype) {
  const auto parameter = leaf({4, 4}, 2, at::kBFloat16);
  const auto before = parameter.detach().clone();
  Adam adam({{"p", parameter}}, 0.05, OptimConfig());
  parameter.mutable_grad() = torch::ones({4, 4}).to(at::kBFloat16);
  adam.schedule(1.0);
  adam.step();
  EXPECT_EQ(parameter.scalar_type(), at::kBFloat16);
  EXPECT_EQ(adam.state()[0].second.scalar_type(), at::kBFloat16);
  // The first step of Adam is the learning rate against the gradient's sign.
  EXPECT_TRUE(at::equal(parameter.detach(), (before.to(at::kFloat) - 0.05f).to(at::kBFloat16)));
}

TEST(Adam, AParameterWithoutGradientIsUntouched) {
  const auto with = leaf({3}, 3), without = leaf({3}, 4);
  const auto before = without.detach().clone();
  Adam adam({{"with", with}, {"without", without}}, 0.1, OptimConfig());
  with.mutable_grad() = torch::ones({3});
  adam.schedule(1.0);
  adam.step();
  EXPECT_TRUE(at::equal(without.detach(), before));
  EXPECT_EQ(adam.state()[5].second.item<float>(), 0) << "its step count does not change";
}

/// The quintic iteration, in float64.
at::Tensor orthogonalized(const at::Tensor& gradient, int steps) {
  auto x = gradient.to(at::kDouble);
  x = x / (x.norm() + 1e-7);
  const bool tall = x.size(0) > x.size(1);
  if (tall) x = x.t();
  for (int i = 0; i < steps; ++i) {
    const auto a = x.mm(x.t());
    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a.mm(a)).mm(x);
  }
  return tall ? x.t() : x;
}

TEST(Muon, FollowsItsDefinitionOverSeveralSteps) {
  OptimConfig config;
  config.matrix_lr = 0.03;
  const auto tall = leaf({24, 8}, 1), wide = leaf({8, 24}, 2), square = leaf({16, 16}, 3);
  const std::vector<at::Tensor> parameters{tall, wide, square};
  Muon muon({{"tall", tall}, {"wide", wide}, {"square", square}}, config, at::kFloat, Process(), OpsPath::reference);
  std::vector<at::Tensor> values, buffers;
  for (const auto& parameter : parameters) {
    values.push_back(parameter.detach().to(at::kDouble).clone());
    buffers.push_back(torch::zeros_like(values.back()));
  }
  for (int step = 0; step < 4; ++step) {
    const double momentum = 0.85 + 0.02 * step, scale = 1.0 - 0.2 * step;
    for (size_t i = 0; i < parameters.size(); ++i) {
      parameters[i].mutable_grad() = torch::randn_like(parameters[i]);
      const auto g = parameters[i].grad().to(at::kDouble);
      buffers[i] = momentum * buffers[i] + g;
      const double rows = static_cast<double>(g.size(0)), columns = static_cast<double>(g.size(1));
      values[i] =
          values[i] - 0.03 * scale * std::sqrt(std::max(1.0, rows / columns)) * orthogonalized(g + momentum * buffers[i], 5);
    }
    muon.schedule(scale, momentum);
    muon.step();
    for (size_t i = 0; i < parameters.size(); ++i)
      EXPECT_LT(distance(parameters[i], values[i]), 1e-4) << "step " << step << " matrix " << i;
  }
  const StateDict state = muon.state();
  EXPECT_EQ(names_of(state),
            (std::vector<std::string>{"muon.momentum_buffer.tall", "muon.momentum_buffer.wide", "muon.momentum_buffer.square"}));
  for (size_t i = 0; i < state.size(); ++i) EXPECT_LT(distance(state[i].second, buffers[i]), 1e-5);
}

TEST(Muon, UpdatesAreNearlyOrthogonalAndScaledByShape) {
  OptimConfig config;
  config.matrix_lr = 1.0;
  struct Shape {
    int64_t rows, columns;
    double scale;
  };
  for (const Shape& shape : {Shape{64, 16, 2.0}, Shape{16, 64, 1.0}}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const auto parameter = leaf({shape.rows, shape.columns}, 6);
      const auto before = parameter.detach().clone();
      Muon muon({{"p", parameter}}, config, dtype, Process(), OpsPath::reference);
      parameter.mutable_grad() = 1000 * torch::randn({shape.rows, shape.columns});
      muon.schedule(1.0, 0.95);
      muon.step();
      const auto singular_values = at::linalg_svdvals(before - parameter.detach()) / shape.scale;
      EXPECT_GT(singular_values.min().item<float>(), 0.6) << shape.rows;
      EXPECT_LT(singular_values.max().item<float>(), 1.3) << shape.rows;
    }
  }
}

TEST(Muon, AParameterWithoutGradientIsUntouched) {
  const auto with = leaf({4, 4}, 3), without = leaf({4, 4}, 4);
  const auto before = without.detach().clone();
  Muon muon({{"with", with}, {"without", without}}, OptimConfig(), at::kFloat, Process(), OpsPath::reference);
  with.mutable_grad() = torch::randn({4, 4});
  muon.schedule(1.0, 0.9);
  muon.step();
  EXPECT_TRUE(at::equal(without.detach(), before));
  EXPECT_EQ(muon.state()[1].second.abs().max().item<float>(), 0);
}

TEST(Groups, NamesFirstShapesSecond) {
  ModelConfig config = tiny_config();
  config.tie_embeddings = false;
  config.num_layers = 1;
  Gpt one_layer = make_model(config);
  EXPECT_EQ(names_of(split_parameters(one_layer, usual_patterns()).scalar),
            (std::vector<std::string>{"blocks.0.attn_scale", "blocks.0.mlp_scale", "blocks.0.resid_mix", "blocks.0.attn.q_gain"}))
      << "one layer has no skip weights";
  config.num_layers = 2;
  Gpt model = make_model(config);
  const auto groups = split_parameters(model, usual_patterns());
  EXPECT_EQ(names_of(groups.tok_emb), std::vector<std::string>{"tok_emb.weight"});
  EXPECT_EQ(names_of(groups.lm_head), std::vector<std::string>{"lm_head.weight"});
  std::vector<std::string> matrices, scalars;
  for (const char* block : {"blocks.0.", "blocks.1."}) {
    for (const char* name :
         {"attn.c_q.weight", "attn.c_k.weight", "attn.c_v.weight", "attn.proj.weight", "mlp.fc.weight", "mlp.proj.weight"}) {
      matrices.push_back(std::string(block) + name);
    }
    for (const char* name : {"attn_scale", "mlp_scale", "resid_mix", "attn.q_gain"}) scalars.push_back(std::string(block) + name);
  }
  scalars.push_back("skip_weights");
  EXPECT_EQ(names_of(groups.matrix), matrices);
  EXPECT_EQ(names_of(groups.scalar), scalars);
  EXPECT_EQ(groups.matrix[0].second.data_ptr(), model->blocks[0]->attn->c_q->weight.data_ptr()) << "the model's own tensors";
}

TEST(Groups, ControlPatternsMoveMatrices) {
  Gpt model = make_model(tiny_config());
  const auto groups = split_parameters(model, {"c_k"});
  const auto has = [](const StateDict& group, const std::string& name) {
    const auto names = names_of(group);
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  EXPECT_TRUE(has(groups.scalar, "blocks.0.attn.c_k.weight"));
  EXPECT_FALSE(has(groups.matrix, "blocks.0.attn.c_k.weight"));
  EXPECT_TRUE(has(groups.matrix, "blocks.1.resid_mix")) << "two-dimensional and no longer a control tensor";
  EXPECT_TRUE(has(groups.scalar, "blocks.1.attn.q_gain")) << "a vector is not a matrix, regardless of its name";
  EXPECT_TRUE(groups.lm_head.empty());
}

TEST(Groups, TablesAreEmbeddingsAndWhatIsOutsideOfBlocksIsNoMatrix) {
  ModelConfig config = tiny_config();
  config.num_loops = 1, config.loop_start = config.loop_end = 1;
  config.skip_gates = config.smear_gate = true;
  config.bigram_vocab_size = 20, config.bigram_dim = 9;
  config.ve_layers = {0, 1}, config.ve_dim = 9;
  Gpt model = make_model(config);
  const auto groups = split_parameters(model, usual_patterns());
  EXPECT_EQ(names_of(groups.tok_emb),
            (std::vector<std::string>{"tok_emb.weight", "bigram.embed.weight", "ve_shared.embed.weight"}));
  const auto scalars = names_of(groups.scalar);
  const std::vector<std::string> last(scalars.end() - 9, scalars.end());
  EXPECT_EQ(last,
            (std::vector<std::string>{"skip_weights", "skip_gates", "bigram.scale", "bigram.proj.weight", "smear.gate",
                                      "ve_shared.scale", "ve_shared.proj.weight", "ve_layer_scales.0", "ve_layer_scales.1"}));
  int64_t elements = 0;
  for (const auto* group : {&groups.tok_emb, &groups.lm_head, &groups.matrix, &groups.scalar}) {
    for (const auto& entry : *group) elements += entry.second.numel();
  }
  EXPECT_EQ(elements, config.parameter_count());
}

TEST(Groups, AParameterInNoneOrTwoIsAnError) {
  Gpt model = make_model(tiny_config());
  ParameterGroups twice = split_parameters(model, usual_patterns());
  twice.matrix.push_back(twice.scalar.front());
  expect_error(ExitCode::internal, {"blocks.0.attn_scale is in more than one optimizer group"},
               [&] { check_groups(model, twice); });
  model->register_parameter("thoughts", torch::ones({2}));
  expect_error(ExitCode::internal, {"thoughts is in no optimizer group"},
               [&] { Optimizers(model, OptimConfig(), at::kFloat, Process(), OpsPath::reference); });
}

TEST(Optimizers, TheFastPathSeesTheNewWeights) {
  ModelConfig config = tiny_config();
  config.vocab_size = 64;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const bool tied : {true, false}) {
      config.tie_embeddings = tied;
      Gpt model = make_random_model(config, 5, OpsPath::fast);
      set_parameter_precision(model, dtype, usual_patterns());
      Group group;
      Optimizers optimizers(model, OptimConfig(), dtype, Process(), OpsPath::fast);
      const auto ids = random_ids(2, 40, config.vocab_size);
      for (int i = 0; i < 3; ++i) {
        model(ids, ids).backward();
        optimizers.schedule(1.0, 0.9);
        optimizers.step(group);
        optimizers.zero_grad();
      }
      Gpt fresh = make_model(config, 6, OpsPath::fast);
      set_parameter_precision(fresh, dtype, usual_patterns());
      load_state_dict(fresh, state_dict(model), "the stepped model");
      at::NoGradGuard no_grad;
      EXPECT_TRUE(at::equal(model->logits(ids), fresh->logits(ids))) << dtype << (tied ? " tied" : " untied");
    }
  }
}

TEST(Optimizers, StepEveryParameterWithItsOwnRate) {
  ModelConfig model_config = tiny_config();
  model_config.tie_embeddings = false;
  OptimConfig config;
  // All groups but one keep their values.
  const std::map<std::string, double OptimConfig::*> rates{{"tok_emb.weight", &OptimConfig::embed_lr},
                                                           {"lm_head.weight", &OptimConfig::head_lr},
                                                           {"blocks.0.mlp.fc.weight", &OptimConfig::matrix_lr},
                                                           {"blocks.1.attn.q_gain", &OptimConfig::scalar_lr}};
  config.embed_lr = config.head_lr = config.matrix_lr = config.scalar_lr = config.tied_embed_lr = 0;
  for (const auto& [moving, rate] : rates) {
    OptimConfig one = config;
    one.*rate = 0.1;
    Gpt model = make_random_model(model_config);
    Group group;
    Optimizers optimizers(model, one, at::kFloat, Process(), OpsPath::reference);
    const StateDict before = clone_state(state_dict(model));
    const auto ids = random_ids(2, 8, 48);
    model(ids, ids).backward();
    optimizers.schedule(1.0, 0.95);
    optimizers.step(group);
    for (size_t i = 0; i < before.size(); ++i) {
      const auto now = state_dict(model)[i];
      if (rates.count(now.first) != 0) {
        EXPECT_EQ(!at::equal(now.second, before[i].second), now.first == moving) << now.first << " with a rate for " << moving;
      }
    }
    optimizers.zero_grad();
    for (const auto& parameter : model->parameters()) EXPECT_FALSE(parameter.grad().defined());
  }
  Gpt untied = make_model(model_config), tied = make_model(tiny_config());
  EXPECT_EQ(Optimizers(untied, OptimConfig(), at::kFloat, Process(), OpsPath::reference).token_lr(), 0.6);
  EXPECT_EQ(Optimizers(tied, OptimConfig(), at::kFloat, Process(), OpsPath::reference).token_lr(), 0.05);
}

TEST(Optimizers, AdamwStepsTheMatricesAndDecaysMatricesAndEmbeddingsOnly) {
  ModelConfig model_config = tiny_config();
  model_config.tie_embeddings = false;
  model_config.norm_weights = true;
  OptimConfig config;
  config.optimizer = OptimizerChoice::adamw;
  config.weight_decay = 0.5;
  config.embed_lr = config.head_lr = config.matrix_lr = config.scalar_lr = 0.1;
  Gpt model = make_random_model(model_config);
  Group group;
  Optimizers optimizers(model, config, at::kFloat, Process(), OpsPath::reference);
  const StateDict before = clone_state(state_dict(model));
  for (auto& parameter : model->parameters()) parameter.mutable_grad() = torch::zeros_like(parameter);
  optimizers.schedule(1.0, 0.95);
  optimizers.step(group);
  const StateDict after = state_dict(model);
  for (size_t i = 0; i < before.size(); ++i) {
    const auto& name = before[i].first;
    const bool decays = name.ends_with(".weight") && before[i].second.dim() == 2;
    EXPECT_LE(distance(after[i].second, before[i].second * (decays ? 0.95 : 1.0)), 1e-7) << name;
  }
  for (const auto& name : names_of(optimizers.state())) EXPECT_TRUE(name.starts_with("adam.")) << name;
  EXPECT_EQ(optimizers.state().size(), 3 * before.size());
}

TEST(Optimizers, EveryGroupButTheHeadHasItsOwnDecay) {
  ModelConfig model_config = tiny_config();
  model_config.tie_embeddings = false;
  OptimConfig config;
  config.muon_wd = 0.1;
  config.embed_wd = 0.2;
  config.adam_wd = 0.3;
  config.embed_lr = config.head_lr = config.matrix_lr = config.scalar_lr = 0.5;
  Gpt model = make_random_model(model_config);
  Group group;
  Optimizers optimizers(model, config, at::kFloat, Process(), OpsPath::reference);
  const StateDict before = clone_state(state_dict(model));
  for (auto& parameter : model->parameters()) parameter.mutable_grad() = torch::zeros_like(parameter);
  optimizers.schedule(0.5, 0.95);
  optimizers.step(group);
  const StateDict after = state_dict(model);
  for (size_t i = 0; i < before.size(); ++i) {
    const auto& name = before[i].first;
    const bool matrix = name.starts_with("blocks.") && name.ends_with(".weight");
    const double decay = name == "lm_head.weight" ? 0 : name == "tok_emb.weight" ? 0.2 : matrix ? 0.1 : 0.3;
    EXPECT_LE(distance(after[i].second, before[i].second * (1 - 0.25 * decay)), 1e-6) << name;
  }
}

TEST(Optimizers, StateCoversEveryParameterOnce) {
  Gpt model = make_model(tiny_config());
  const Optimizers optimizers(model, OptimConfig(), at::kFloat, Process(), OpsPath::reference);
  auto names = names_of(optimizers.state());
  std::vector<std::string> expected;
  for (const auto& item : model->named_parameters()) {
    const bool matrix = item.key().starts_with("blocks.") && item.key().ends_with(".weight");
    if (matrix) {
      expected.push_back("muon.momentum_buffer." + item.key());
    } else {
      for (const char* kind : {"exp_avg", "exp_avg_sq", "step"}) expected.push_back(format("adam.%s.", kind) + item.key());
    }
  }
  std::sort(names.begin(), names.end());
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(names, expected);
}

TEST(ClipGradNorm, LimitsTheGlobalNorm) {
  const auto a = leaf({3, 4}, 1), b = leaf({7}, 2), without = leaf({2}, 3);
  a.mutable_grad() = torch::randn({3, 4}) * 5;
  b.mutable_grad() = torch::randn({7}) * 0.01;
  const auto a_before = a.grad().clone(), b_before = b.grad().clone();
  const double norm = std::sqrt((a_before.square().sum() + b_before.square().sum()).item<double>());
  EXPECT_NEAR(clip_grad_norm({a, b, without}, 2.0).item<double>(), norm, 1e-4);
  EXPECT_NEAR(std::sqrt((a.grad().square().sum() + b.grad().square().sum()).item<double>()), 2.0, 1e-5);
  EXPECT_LT(distance(a.grad(), a_before * (2.0 / norm)), 1e-5) << "the direction stays";
  EXPECT_FALSE(without.grad().defined());
}

TEST(ClipGradNorm, BelowTheLimitNothingChanges) {
  const auto a = leaf({3, 4}, 1);
  a.mutable_grad() = torch::randn({3, 4});
  const auto before = a.grad().clone();
  clip_grad_norm({a}, 100.0);
  EXPECT_TRUE(at::equal(a.grad(), before));
}

}  // namespace
}  // namespace pgolf::testing
