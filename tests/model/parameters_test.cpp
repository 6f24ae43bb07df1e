// Names, order, count, initial bits and dtypes of the parameters; reading and writing the state dict.
#include "pgolf/config/parameters.h"

#include "support/files.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

const std::vector<std::string>& default_patterns() {
  static const OptimConfig config;
  return config.control_patterns;
}

TEST(Parameters, NamesAndOrderAreUpstreams) {
  ModelConfig config = tiny_config();
  const std::vector<std::string> tied{"skip_weights",
                                      "tok_emb.weight",
                                      "blocks.0.attn_scale",
                                      "blocks.0.mlp_scale",
                                      "blocks.0.resid_mix",
                                      "blocks.0.attn.q_gain",
                                      "blocks.0.attn.c_q.weight",
                                      "blocks.0.attn.c_k.weight",
                                      "blocks.0.attn.c_v.weight",
                                      "blocks.0.attn.proj.weight",
                                      "blocks.0.mlp.fc.weight",
                                      "blocks.0.mlp.proj.weight",
                                      "blocks.1.attn_scale",
                                      "blocks.1.mlp_scale",
                                      "blocks.1.resid_mix",
                                      "blocks.1.attn.q_gain",
                                      "blocks.1.attn.c_q.weight",
                                      "blocks.1.attn.c_k.weight",
                                      "blocks.1.attn.c_v.weight",
                                      "blocks.1.attn.proj.weight",
                                      "blocks.1.mlp.fc.weight",
                                      "blocks.1.mlp.proj.weight"};
  Gpt model = make_model(config);
  EXPECT_EQ(names_of(state_dict(model)), tied);
  config.tie_embeddings = false;
  std::vector<std::string> untied = tied;
  untied.push_back("lm_head.weight");
  Gpt with_head = make_model(config);
  EXPECT_EQ(names_of(state_dict(with_head)), untied);
  EXPECT_EQ(with_head->named_buffers().size(), 0u);
}

TEST(Parameters, ShapesFollowTheConfiguration) {
  ModelConfig config = tiny_config();
  config.mlp_mult = 3;
  config.tie_embeddings = false;
  Gpt model = make_model(config);
  const auto& block = model->blocks[1];
  EXPECT_EQ(model->tok_emb->weight.sizes(), at::IntArrayRef({48, 32}));
  EXPECT_EQ(model->lm_head->weight.sizes(), at::IntArrayRef({48, 32}));
  EXPECT_EQ(model->skip_weights.sizes(), at::IntArrayRef({1, 32}));
  EXPECT_EQ(block->resid_mix.sizes(), at::IntArrayRef({2, 32}));
  EXPECT_EQ(block->attn->q_gain.sizes(), at::IntArrayRef({4}));
  EXPECT_EQ(block->attn->c_q->weight.sizes(), at::IntArrayRef({32, 32}));
  EXPECT_EQ(block->attn->c_k->weight.sizes(), at::IntArrayRef({16, 32}));
  EXPECT_EQ(block->attn->c_v->weight.sizes(), at::IntArrayRef({16, 32}));
  EXPECT_EQ(block->mlp->fc->weight.sizes(), at::IntArrayRef({96, 32}));
  EXPECT_EQ(block->mlp->proj->weight.sizes(), at::IntArrayRef({32, 96}));
}

TEST(Parameters, CountIsTheFormulas) {
  EXPECT_EQ(ModelConfig().parameter_count(), 17'059'912) << "the published baseline";
  for (const bool tied : {true, false}) {
    for (const int layers : {1, 2, 3, 5}) {
      for (const int kv_heads : {1, 2, 4}) {
        ModelConfig config = tiny_config();
        config.num_layers = layers;
        config.num_kv_heads = kv_heads;
        config.mlp_mult = 1 + layers % 3;
        config.tie_embeddings = tied;
        Gpt model = make_model(config);
        int64_t count = 0;
        for (const auto& [name, tensor] : state_dict(model)) count += tensor.numel();
        EXPECT_EQ(count, config.parameter_count()) << layers << " layers, " << kv_heads << " kv heads, tied " << tied;
      }
    }
  }
}

TEST(Parameters, SameSeedSameBits) {
  Gpt first = make_model(tiny_config(), 7), again = make_model(tiny_config(), 7), other = make_model(tiny_config(), 8);
  expect_same_tensors(state_dict(first), state_dict(again));
  EXPECT_FALSE(at::equal(first->tok_emb->weight, other->tok_emb->weight));
  EXPECT_FALSE(at::equal(first->blocks[0]->attn->c_q->weight, other->blocks[0]->attn->c_q->weight));
}

TEST(Parameters, InitialValuesAreThoseDocumented) {
  ModelConfig config = tiny_config();
  config.tie_embeddings = false;
  config.qk_gain_init = 1.25;
  Gpt model = make_model(config);
  for (const auto& block : model->blocks) {
    EXPECT_TRUE(at::equal(block->attn_scale, torch::ones({32})));
    EXPECT_TRUE(at::equal(block->mlp_scale, torch::ones({32})));
    EXPECT_TRUE(at::equal(block->resid_mix, torch::stack({torch::ones({32}), torch::zeros({32})})));
    EXPECT_TRUE(at::equal(block->attn->q_gain, torch::full({4}, 1.25)));
    EXPECT_EQ(block->attn->proj->weight.abs().max().item<float>(), 0);
    EXPECT_EQ(block->mlp->proj->weight.abs().max().item<float>(), 0);
    // Kaiming uniform with a = sqrt(5): bounded by 1 / sqrt(fan_in), and filling that range.
    const float bound = 1 / std::sqrt(32.0f), largest = block->attn->c_q->weight.abs().max().item<float>();
    EXPECT_LE(largest, bound);
    EXPECT_GT(largest, 0.9f * bound);
  }
  EXPECT_TRUE(at::equal(model->skip_weights, torch::ones({1, 32})));
  EXPECT_EQ(model->lm_head->weight.abs().max().item<float>(), 0);
  config.tie_embeddings = true;
  config.tied_embed_init_std = 0.02;
  EXPECT_NEAR(make_model(config)->tok_emb->weight.std().item<float>(), 0.02, 0.002);
}

TEST(Parameters, OrthogonalInitIsOfBlockMatricesThatAreLargeEnough) {
  ModelConfig config = tiny_config();
  config.model_dim = 128;
  config.num_heads = 8;  // of 16 dims: k and v have 32 rows
  config.mlp_kind = MlpKind::swiglu;
  const ModelConfig plain = config;
  config.orthogonal_init = true;
  Gpt model = make_model(config), as_constructed = make_model(plain);
  const StateDict before = state_dict(as_constructed);
  size_t i = 0;
  for (const auto& [name, weight] : state_dict(model)) {
    const bool orthogonal = name.ends_with("c_q.weight") || name.ends_with("mlp.fc.weight") || name.ends_with("mlp.gate.weight");
    const auto& constructed = before[i++].second;
    EXPECT_EQ(at::equal(weight, constructed), !orthogonal) << name;
    if (!orthogonal) continue;
    const bool tall = weight.size(0) > weight.size(1);
    const auto products = tall ? at::mm(weight.t(), weight) : at::mm(weight, weight.t());
    EXPECT_LT(distance(products, at::eye(products.size(0))), 1e-5) << name;
  }
}

TEST(Parameters, TablesStartSoThatTheyCanMove) {
  ModelConfig config = tiny_config();
  config.model_dim = 128;
  config.num_heads = config.num_kv_heads = 4;
  config.bigram_vocab_size = 50, config.bigram_dim = 96;
  config.smear_gate = true;
  config.ve_layers = {1}, config.ve_dim = 64;
  Gpt model = make_model(config);
  EXPECT_EQ(model->bigram->embed->weight.abs().max().item<float>(), 0);
  for (const auto& proj : {model->bigram->proj->weight, model->ve_shared->proj->weight}) {
    EXPECT_LT(distance(at::mm(proj.t(), proj), at::eye(proj.size(1))), 1e-5) << "orthogonal";
  }
  EXPECT_NEAR(model->ve_shared->embed->weight.std().item<float>(), 0.01, 0.001);
  EXPECT_EQ(model->bigram->scale.item<float>(), 0.05f);
  EXPECT_EQ(model->ve_shared->scale.item<float>(), 0.1f);
  EXPECT_EQ(model->ve_layer_scales->at(0).item<float>(), 1);
  EXPECT_EQ(model->smear->gate.abs().max().item<float>(), 0);
  for (const auto& item : model->named_parameters()) EXPECT_TRUE(item.value().requires_grad()) << item.key();
  set_parameter_precision(model, at::kBFloat16, default_patterns());
  for (const auto& [name, tensor] : state_dict(model)) {
    const bool table = name == "tok_emb.weight" || name.ends_with(".embed.weight");
    EXPECT_EQ(tensor.scalar_type(), table ? at::kBFloat16 : at::kFloat) << name;
  }
  const auto paths = upstream_module_paths(config);
  for (const char* path : {"bigram.embed", "bigram.proj", "smear", "ve_shared.proj", "ve_layer_scales"}) {
    EXPECT_EQ(std::count(paths.begin(), paths.end(), path), 1) << path;
  }
}

TEST(Parameters, RopeDimsChangesNeitherNamesNorInitialBits) {
  Gpt full = make_model(tiny_config());
  for (const int rope_dims : {0, 2, 4, 6}) {
    ModelConfig config = tiny_config();
    config.rope_dims = rope_dims;
    Gpt partial = make_model(config);
    expect_same_tensors(state_dict(partial), state_dict(full));
    EXPECT_EQ(config.parameter_count(), tiny_config().parameter_count());
  }
}

TEST(Parameters, Bfloat16LeavesOnlyTheEmbeddingInBfloat16) {
  ModelConfig config = tiny_config();
  config.tie_embeddings = false;
  Gpt model = make_random_model(config);
  const StateDict before = clone_state(state_dict(model));
  set_parameter_precision(model, at::kBFloat16, default_patterns());
  const StateDict after = state_dict(model);
  for (size_t i = 0; i < after.size(); ++i) {
    const auto& [name, tensor] = after[i];
    EXPECT_EQ(tensor.scalar_type(), name == "tok_emb.weight" ? at::kBFloat16 : at::kFloat) << name;
    EXPECT_TRUE(at::equal(tensor.to(at::kFloat), before[i].second.to(at::kBFloat16).to(at::kFloat)))
        << name << " is rounded once";
  }
  for (const auto& parameter : model->parameters()) EXPECT_TRUE(parameter.requires_grad());
}

TEST(Parameters, AControlPatternKeepsTheEmbeddingFloat32) {
  Gpt model = make_model(tiny_config());
  set_parameter_precision(model, at::kBFloat16, {"tok_emb"});
  EXPECT_EQ(model->tok_emb->weight.scalar_type(), at::kFloat);
}

TEST(Parameters, Float32ChangesNothing) {
  Gpt model = make_random_model(tiny_config());
  const StateDict before = clone_state(state_dict(model));
  set_parameter_precision(model, at::kFloat, default_patterns());
  expect_same_tensors(state_dict(model), before);
}

TEST(Parameters, ControlTensorsAreFoundByPartOfTheName) {
  EXPECT_TRUE(is_control_tensor("blocks.0.attn.q_gain", default_patterns()));
  EXPECT_TRUE(is_control_tensor("blocks.3.resid_mix", default_patterns()));
  EXPECT_TRUE(is_control_tensor("skip_weights", default_patterns()));
  EXPECT_FALSE(is_control_tensor("blocks.0.attn.c_q.weight", default_patterns()));
  EXPECT_FALSE(is_control_tensor("blocks.0.attn.q_gain", {}));
}

TEST(StateDict, RoundTripGivesTheSameBits) {
  Gpt source = make_random_model(tiny_config(), 1), target = make_random_model(tiny_config(), 2);
  const auto ids = random_ids(2, 12, 48);
  load_state_dict(target, state_dict(source), "a file");
  expect_same_tensors(state_dict(target), state_dict(source));
  EXPECT_TRUE(at::equal(target->logits(ids), source->logits(ids)));
  source->skip_weights.detach().fill_(9);
  EXPECT_NE(target->skip_weights[0][0].item<float>(), 9) << "values are copied, not shared";
}

TEST(StateDict, OrderDoesNotMatterAndDtypesAreConverted) {
  Gpt source = make_random_model(tiny_config(), 1), target = make_random_model(tiny_config(), 2);
  StateDict state = state_dict(source);
  std::reverse(state.begin(), state.end());
  for (auto& entry : state) entry.second = entry.second.to(at::kDouble);
  load_state_dict(target, state, "a file");
  expect_same_tensors(state_dict(target), state_dict(source));
}

TEST(StateDict, MisfitsAreNamed) {
  Gpt model = make_model(tiny_config());
  const StateDict good = state_dict(model);
  StateDict missing(good.begin(), good.end() - 1);
  expect_error(ExitCode::bad_input, {"weights.pt", "blocks.1.mlp.proj.weight", "is missing"},
               [&] { load_state_dict(model, missing, "weights.pt"); });
  StateDict unknown = good;
  unknown.push_back({"blocks.7.bias", torch::zeros({2})});
  expect_error(ExitCode::bad_input, {"weights.pt", "blocks.7.bias", "is not in the model"},
               [&] { load_state_dict(model, unknown, "weights.pt"); });
  StateDict reshaped = good;
  reshaped[1].second = torch::zeros({48, 31});
  expect_error(ExitCode::bad_input, {"weights.pt", "tok_emb.weight", "[48, 31]", "[48, 32]"},
               [&] { load_state_dict(model, reshaped, "weights.pt"); });
  StateDict twice = good;
  twice.push_back(good[3]);
  expect_error(ExitCode::bad_input, {"weights.pt", good[3].first, "twice"}, [&] { load_state_dict(model, twice, "weights.pt"); });
}

TEST(StateDict, ModulePathsListEveryUpstreamModule) {
  ModelConfig config = tiny_config();
  const auto paths = upstream_module_paths(config);
  // The model, tok_emb, blocks, 12 for each block, final_norm.
  EXPECT_EQ(paths.size(), 4u + 12u * 2u);
  EXPECT_EQ(paths.front(), "");
  EXPECT_EQ(paths.back(), "final_norm");
  for (const char* path : {"tok_emb", "blocks", "blocks.0", "blocks.1.attn_norm", "blocks.1.attn.rotary", "blocks.0.mlp.proj"}) {
    EXPECT_EQ(std::count(paths.begin(), paths.end(), path), 1) << path;
  }
  config.tie_embeddings = false;
  EXPECT_EQ(upstream_module_paths(config).back(), "lm_head");
}

TEST(Parameters, AreDescribedInOrder) {
  // Every combination of the options that decide which tensors exist, and some sizes.
  for (int bits = 0; bits < 256; ++bits) {
    ModelConfig config = tiny_config();
    config.num_layers = 1 + bits % 3;
    config.mlp_mult = 1 + bits % 2;
    config.tie_embeddings = (bits & 1) != 0;
    config.mlp_kind = (bits & 2) != 0 ? MlpKind::swiglu : MlpKind::relu2;
    config.norm_weights = (bits & 4) != 0;
    config.parallel_block = (bits & 8) != 0;
    config.unet_skips = (bits & 16) != 0;
    config.resid_mix = (bits & 32) != 0;
    config.skip_gates = config.unet_skips && (bits & 64) != 0;
    if ((bits & 128) != 0) {
      config.mlp_mult = 1.3;
      config.parallel_residual_start = 1;
      config.num_loops = 2;
      config.loop_start = config.loop_end = 0;
      config.smear_gate = (bits & 1) != 0;
      config.bigram_vocab_size = (bits & 2) != 0 ? 20 : 0;
      config.bigram_dim = (bits & 4) != 0 ? 32 : 9;
      if ((bits & 8) != 0) config.ve_layers = {0};
      config.ve_dim = (bits & 16) != 0 ? 16 : 9;
    }
    Gpt model = make_model(config);
    const auto expected = model_parameters(config);
    const auto state = state_dict(model);
    ASSERT_EQ(expected.size(), state.size()) << bits;
    for (size_t i = 0; i < state.size(); ++i) {
      EXPECT_EQ(expected[i].name, state[i].first) << bits;
      EXPECT_EQ(expected[i].shape, state[i].second.sizes().vec()) << bits << " " << state[i].first;
    }
  }
}

}  // namespace
}  // namespace pgolf::testing
