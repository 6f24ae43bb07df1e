// What the model computes: causality, skip connections, the loss, and its gradients.
#include "pgolf/ops/rms_norm.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

const OpsPath both_paths[] = {OpsPath::reference, OpsPath::fast};

ModelConfig partial_config(int layers = 2) {
  ModelConfig config = tiny_config();
  config.num_layers = layers;
  config.rope_dims = 4;
  return config;
}

TEST(Forward, ALaterTokenDoesNotChangeEarlierLogits) {
  torch::NoGradGuard no_grad;
  const auto ids = random_ids(2, 24, 48);
  auto changed = ids.clone();
  changed[0][13] = (ids[0][13] + 1) % 48;
  for (const OpsPath path : both_paths) {
    Gpt model = make_random_model(partial_config(3), 5, path);
    const auto before = model->logits(ids), after = model->logits(changed);
    EXPECT_TRUE(at::equal(before[0].narrow(0, 0, 13), after[0].narrow(0, 0, 13)));
    for (int64_t t = 13; t < 24; ++t) EXPECT_GT(distance(before[0][t], after[0][t]), 0) << "position " << t << " sees the change";
    EXPECT_TRUE(at::equal(before[1], after[1])) << "the other sequence does not";
  }
}

TEST(Forward, AWindowBoundsWhatATokenSees) {
  torch::NoGradGuard no_grad;
  ModelConfig config = tiny_config();  // two layers: what is 2 * (3 - 1) positions back is out of sight
  config.attention_window = {3};
  for (const OpsPath path : both_paths) {
    Gpt model = make_random_model(config, 5, path);
    const auto ids = random_ids(1, 12, 48);
    auto changed = ids.clone();
    changed[0][2] = (ids[0][2].item<int64_t>() + 1) % 48;
    const auto before = model->logits(ids), after = model->logits(changed);
    EXPECT_GT(distance(before.narrow(1, 6, 1), after.narrow(1, 6, 1)), 1e-6);
    EXPECT_LE(distance(before.narrow(1, 7, 5), after.narrow(1, 7, 5)), 1e-6);
  }
}

TEST(Forward, SequencesOfABatchDoNotMix) {
  torch::NoGradGuard no_grad;
  const auto ids = random_ids(3, 16, 48);
  for (const OpsPath path : both_paths) {
    Gpt model = make_random_model(partial_config(), 5, path);
    const auto together = model->logits(ids);
    for (int64_t b = 0; b < 3; ++b) EXPECT_LT(distance(together[b], model->logits(ids.narrow(0, b, 1))[0]), 1e-4);
  }
}

TEST(Forward, LogitsStayWithinTheSoftCap) {
  torch::NoGradGuard no_grad;
  ModelConfig config = partial_config();
  config.logit_softcap = 2.5;
  Gpt model = make_random_model(config);
  model->tok_emb->weight.mul_(50);
  const auto logits = model->logits(random_ids(2, 16, 48));
  EXPECT_EQ(logits.sizes(), at::IntArrayRef({2, 16, 48}));
  EXPECT_LE(logits.abs().max().item<float>(), 2.5f);
  EXPECT_GT(logits.abs().max().item<float>(), 2.4f);
}

TEST(Forward, LossIsTheMeanCrossEntropyOfTheLogits) {
  torch::NoGradGuard no_grad;
  const auto ids = random_ids(2, 17, 48);
  const auto inputs = ids.narrow(1, 0, 16), targets = ids.narrow(1, 1, 16);
  for (const bool tied : {true, false}) {
    for (const OpsPath path : both_paths) {
      ModelConfig config = partial_config();
      config.tie_embeddings = tied;
      Gpt model = make_random_model(config, 5, path);
      const auto log_probabilities = at::log_softmax(model->logits(inputs).to(at::kDouble), -1);
      const double expected = -log_probabilities.gather(-1, targets.unsqueeze(-1)).mean().item<double>();
      const auto loss = model(inputs, targets);
      EXPECT_EQ(loss.scalar_type(), at::kFloat);
      EXPECT_EQ(loss.dim(), 0);
      EXPECT_NEAR(loss.item<double>(), expected, 1e-5);
    }
  }
}

TEST(Forward, AFreshUntiedModelKnowsNothing) {
  torch::NoGradGuard no_grad;
  ModelConfig config = partial_config();
  config.tie_embeddings = false;
  const auto ids = random_ids(2, 16, 48);
  EXPECT_NEAR(make_model(config)->forward(ids, ids).item<double>(), std::log(48.0), 1e-5);
}

TEST(Forward, SkipConnectionsFormAUNet) {
  torch::NoGradGuard no_grad;
  struct Skip {
    int into, weight, from;
  };
  // The definition written out: which block gets skip_weights[weight] * output of block `from` added to its input.
  const std::map<int, std::vector<Skip>> wiring{{1, {}}, {2, {{1, 0, 0}}}, {3, {{1, 0, 0}}}, {5, {{2, 0, 1}, {3, 1, 0}}}};
  const auto ids = random_ids(2, 12, 48);
  for (const auto& [layers, skips] : wiring) {
    for (const OpsPath path : both_paths) {
      Gpt model = make_random_model(partial_config(layers), 5, path);
      ASSERT_EQ(model->skip_weights.sizes(), at::IntArrayRef({layers / 2, 32}));
      const auto norm = [](const at::Tensor& x) {
        return x * at::rsqrt(x.square().mean(-1, true) + std::numeric_limits<float>::epsilon());
      };
      const auto x0 = norm(model->tok_emb(ids));
      auto x = x0;
      std::vector<at::Tensor> outputs;
      for (int i = 0; i < layers; ++i) {
        for (const auto& skip : skips) {
          if (skip.into == i) x = x + model->skip_weights[skip.weight] * outputs[static_cast<size_t>(skip.from)];
        }
        x = model->blocks[static_cast<size_t>(i)](x, x0);
        outputs.push_back(x);
      }
      const auto expected = 30 * at::tanh(at::linear(norm(x), model->tok_emb->weight) / 30);
      EXPECT_LT(distance(model->logits(ids), expected), 1e-3) << layers << " layers";
    }
  }
}

TEST(Forward, ALoopIsThoseBlocksAgain) {
  torch::NoGradGuard no_grad;
  // As many blocks as the looped model makes passes, with its weights.
  const std::vector<size_t> passes{0, 1, 2, 1, 2, 1, 2, 3};
  const auto ids = random_ids(2, 12, 48);
  for (const OpsPath path : both_paths) {
    ModelConfig config = partial_config(4), unrolled_config = partial_config(static_cast<int>(passes.size()));
    config.num_loops = 2, config.loop_start = 1, config.loop_end = 2;
    Gpt looped = make_random_model(config, 5, path), unrolled = make_model(unrolled_config, 5, path);
    ASSERT_EQ(looped->skip_weights.sizes(), unrolled->skip_weights.sizes());
    StateDict state;
    for (const auto& [name, tensor] : state_dict(looped)) {
      if (!name.starts_with("blocks.")) state.emplace_back(name, tensor);
      for (size_t i = 0; i < passes.size() && name.starts_with("blocks."); ++i) {
        if (name[7] - '0' == static_cast<int>(passes[i]))
          state.emplace_back("blocks." + std::to_string(i) + name.substr(8), tensor);
      }
    }
    load_state_dict(unrolled, state, "the looped model");
    EXPECT_TRUE(at::equal(looped->logits(ids), unrolled->logits(ids)));
  }
}

TEST(Forward, FewerPassesLeaveSkipRowsWithAZeroGradient) {
  ModelConfig config = partial_config(4);
  config.num_loops = 2, config.loop_start = 1, config.loop_end = 2, config.skip_gates = true;
  const auto ids = random_ids(2, 13, 48);
  Gpt model = make_random_model(config);
  EXPECT_EQ(model->extra_passes(), 2) << "a new model runs the full order";
  for (const auto& [passes, used] : std::map<int, int64_t>{{2, 4}, {1, 3}, {0, 2}}) {
    model->set_extra_passes(passes);
    model->zero_grad();
    model(ids.narrow(1, 0, 12), ids.narrow(1, 1, 12)).backward();
    for (const auto& gradient : {model->skip_weights.grad(), model->skip_gates.grad()}) {
      ASSERT_EQ(gradient.sizes(), at::IntArrayRef({4, 32}));
      for (int64_t row = 0; row < 4; ++row)
        EXPECT_EQ(gradient[row].abs().max().item<float>() > 0, row < used) << passes << " " << row;
    }
  }
  EXPECT_THROW(model->set_extra_passes(3), c10::Error);
  EXPECT_THROW(model->set_extra_passes(-1), c10::Error);
}

TEST(Forward, OnlyTheLastBlocksAreExclusiveAndNormsShrinkWithTheLayer) {
  torch::NoGradGuard no_grad;
  const auto ids = random_ids(2, 12, 48);
  const auto attended = [&](const std::function<void(ModelConfig&)>& change, size_t layer) {
    ModelConfig config = partial_config(3);
    change(config);
    Gpt model = make_random_model(config);
    const auto x = ops::rms_norm(model->tok_emb(ids), OpsPath::reference);
    at::Tensor input;
    auto& attention = model->blocks[layer]->attn;
    attention->observer = [&](const at::Tensor& seen) { input = seen; };
    model->blocks[layer](x, x);
    attention->observer = nullptr;
    return std::pair(input, attention(x));
  };
  const auto nothing = [](ModelConfig&) {};
  const auto exclusive = [](ModelConfig& config) { config.xsa_last_n = 2; };
  const auto scaled = [](ModelConfig& config) { config.ln_scale = true; };
  EXPECT_TRUE(at::equal(attended(exclusive, 0).second, attended(nothing, 0).second));
  for (const size_t layer : {1u, 2u}) {
    EXPECT_GT(distance(attended(exclusive, layer).second, attended(nothing, layer).second), 1e-3);
    const double factor = 1 / std::sqrt(static_cast<double>(layer) + 1);
    EXPECT_TRUE(at::equal(attended(scaled, layer).first, attended(nothing, layer).first * factor)) << layer;
  }
  EXPECT_TRUE(at::equal(attended(scaled, 0).first, attended(nothing, 0).first));
}

/// Loss as a function of the parameters; larger batches make its rounding smaller against its slope.
double numeric_loss(Gpt& model, const at::Tensor& ids) {
  torch::NoGradGuard no_grad;
  const int64_t time = ids.size(1) - 1;
  return model(ids.narrow(1, 0, time), ids.narrow(1, 1, time)).item<double>();
}

struct Shape {
  std::string name;
  OpsPath path;
  std::function<void(ModelConfig&)> change;
};

class Gradients : public ::testing::TestWithParam<Shape> {};

TEST_P(Gradients, AgreeWithCentralDifferences) {
  ModelConfig config = tiny_config();
  config.num_layers = 3;
  GetParam().change(config);
  Gpt model = make_random_model(config, 5, GetParam().path);
  const auto ids = random_ids(4, 13, 48);
  model(ids.narrow(1, 0, 12), ids.narrow(1, 1, 12)).backward();
  torch::NoGradGuard no_grad;
  // Along the gradient the slope is its norm; along the axis of its largest entry it is that entry.
  const auto slope = [&](at::Tensor& parameter, const at::Tensor& direction) {
    const auto original = parameter.clone();
    const double step = 4e-3;
    parameter.copy_(original + step * direction);
    const double above = numeric_loss(model, ids);
    parameter.copy_(original - step * direction);
    const double below = numeric_loss(model, ids);
    parameter.copy_(original);
    return (above - below) / (2 * step);
  };
  for (auto& item : model->named_parameters()) {
    auto& parameter = item.value();
    const auto gradient = parameter.grad();
    ASSERT_TRUE(gradient.defined()) << item.key();
    const double norm = gradient.norm().item<double>();
    ASSERT_GT(norm, 1e-4) << item.key();
    EXPECT_NEAR(slope(parameter, gradient / norm), norm, 0.02 * norm + 5e-4) << item.key();
    auto axis = torch::zeros_like(parameter);
    const auto largest = gradient.abs().argmax();
    axis.view(-1)[largest.item<int64_t>()] = 1;
    const double entry = gradient.reshape(-1)[largest.item<int64_t>()].item<double>();
    EXPECT_NEAR(slope(parameter, axis), entry, 0.02 * std::abs(entry) + 5e-4) << item.key();
  }
}

void like_llama(ModelConfig& config) {
  config.tie_embeddings = config.unet_skips = config.resid_mix = config.qk_norm = false;
  config.norm_weights = true;
  config.mlp_kind = MlpKind::swiglu;
  config.logit_softcap = 0;
  config.rope_dims = 2;
}

void like_pythia(ModelConfig& config) {
  like_llama(config);
  config.parallel_block = true;
  config.mlp_kind = MlpKind::gelu;
}

/// Everything that the record programs add to upstream's model.
void like_a_record(ModelConfig& config) {
  config.num_layers = 4;
  config.num_loops = 2;
  config.loop_start = config.loop_end = 1;
  config.mlp_kind = MlpKind::leaky_relu2;
  config.mlp_mult = 1.75;
  config.parallel_residual_start = 2;
  config.xsa_last_n = 3;
  config.ln_scale = config.skip_gates = true;
  config.rope_dims = 4;
}

/// The record of 2026-03-25, whose tokens contribute more than their embedding.
void with_token_extras(ModelConfig& config) {
  config.smear_gate = true;
  config.bigram_vocab_size = 40;
  config.bigram_dim = 12;
  config.ve_layers = {0, 1};
  config.ve_dim = 20;
  config.xsa_last_n = 1;
}

void with_window_and_offset(ModelConfig& config) {
  config.attention_window = {4, 0};
  config.key_offset = true;
  config.rope_dims = 4;
}

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const OpsPath path : both_paths) {
    const std::string prefix = path == OpsPath::fast ? "fast_" : "reference_";
    all.push_back({prefix + "tied", path, [](ModelConfig& config) { config.rope_dims = 4; }});
    all.push_back({prefix + "untied_none", path, [](ModelConfig& config) {
                     config.tie_embeddings = false;
                     config.rope_dims = 0;
                   }});
    all.push_back({prefix + "llama", path, like_llama});
    all.push_back({prefix + "pythia", path, like_pythia});
    all.push_back({prefix + "record", path, like_a_record});
    all.push_back({prefix + "token_extras", path, with_token_extras});
    all.push_back({prefix + "window_and_offset", path, with_window_and_offset});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(AllParts, Gradients, ::testing::ValuesIn(shapes()), [](const auto& info) { return info.param.name; });

TEST(Forward, FastAndReferencePathsAgree) {
  const auto ids = random_ids(2, 17, 48);
  std::map<std::string, std::function<void(ModelConfig&)>> changes{{"llama", like_llama},
                                                                   {"pythia", like_pythia},
                                                                   {"record", like_a_record},
                                                                   {"token extras", with_token_extras},
                                                                   {"window and offset", with_window_and_offset}};
  for (const int rope_dims : {0, 2, 6, 8})
    changes["rope_dims " + std::to_string(rope_dims)] = [=](ModelConfig& config) { config.rope_dims = rope_dims; };
  for (const auto kind : {MlpKind::relu3, MlpKind::leaky_relu, MlpKind::leaky_relu2, MlpKind::gelu, MlpKind::swiglu})
    changes["MLP " + std::to_string(static_cast<int>(kind))] = [=](ModelConfig& config) { config.mlp_kind = kind; };
  for (const auto& [name, change] : changes) {
    ModelConfig config = tiny_config();
    config.num_layers = 3;
    change(config);
    std::vector<std::vector<at::Tensor>> gradients;
    std::vector<double> losses;
    for (const OpsPath path : both_paths) {
      Gpt model = make_random_model(config, 5, path);
      const auto loss = model(ids.narrow(1, 0, 16), ids.narrow(1, 1, 16));
      loss.backward();
      losses.push_back(loss.item<double>());
      gradients.emplace_back();
      for (const auto& parameter : model->parameters()) gradients.back().push_back(parameter.grad());
    }
    EXPECT_NEAR(losses[0], losses[1], 1e-5) << name;
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      EXPECT_LT(distance(gradients[0][i], gradients[1][i]), 1e-4 * (1 + gradients[0][i].abs().max().item<double>()))
          << name << " tensor " << i;
    }
  }
}

// Comparing or sampling by logits and scoring by losses must not differ by a rounding.
TEST(Forward, LogitsAndTokenLossesAgreeInBfloat16) {
  Gpt model = make_random_model(tiny_config(), 5, OpsPath::fast);
  set_parameter_precision(model, at::kBFloat16, {"attn_scale", "mlp_scale", "resid_mix", "q_gain", "skip_weight"});
  const auto ids = random_ids(2, 16, 48), targets = random_ids(2, 16, 48, 12);
  torch::NoGradGuard no_grad;
  const auto logits = model->logits(ids);
  ASSERT_EQ(logits.scalar_type(), at::kFloat);
  const auto losses = -at::log_softmax(logits, -1).gather(2, targets.unsqueeze(2)).squeeze(2);
  EXPECT_LT(distance(model->token_losses(ids, targets), losses), 1e-5);
  EXPECT_LT(distance(model->token_losses(ids, targets.slice(1, 3)), losses.slice(1, 3)), 1e-5) << "of the last positions";
}

}  // namespace
}  // namespace pgolf::testing
