#include "pgolf/model_io/foreign_model.h"

#include <functional>
#include <set>

#include "foreign_forward.h"
#include "support/models.h"
#include "support/tokenizers.h"

namespace pgolf::testing {
namespace {

using Change = std::function<void(ModelConfig&)>;

/// Sequential, SwiGLU, no norms of q and k, 4 of 8 dims rotated.
ModelConfig exportable_config(const std::vector<Change>& changes = {}) {
  ModelConfig config = tiny_config();
  config.mlp_kind = MlpKind::swiglu;
  config.norm_weights = true;
  config.qk_norm = config.unet_skips = config.resid_mix = config.tie_embeddings = false;
  config.logit_softcap = 0;
  config.rope_dims = 4;
  for (const auto& change : changes) change(config);
  return config;
}

const Tokenizer& tokenizer() {
  static const Tokenizer trained(train_sentencepiece(normalized_texts()), "test.model");
  return trained;
}

class ForeignModels : public ::testing::Test {
 protected:
  static ModelFile file_of(const ModelConfig& config, Gpt& model) {
    ModelFile file;
    file.path = "model.pt";
    file.state = state_dict(model);
    file.stored.model = config;
    file.stored.train_seq_len = 24;
    return file;
  }
  HfFolder exported(const ModelConfig& config, Gpt& model, WeightDtype dtype = WeightDtype::float32) const {
    const fs::path folder = folder_ / "hf";
    write_hf_folder(folder, foreign_model(file_of(config, model), ForeignFormat::hf), tokenizer(), dtype);
    return HfFolder(folder);
  }
  /// Whether the folder's model, by its definition, computes our logits.
  void expect_equal(const std::string& architecture, const std::vector<Change>& changes) const {
    const ModelConfig config = exportable_config(changes);
    Gpt model = make_random_model(config);
    HfFolder theirs = exported(config, model);
    EXPECT_EQ(theirs.config()["model_type"], architecture);
    const auto ids = random_ids(1, 24, config.vocab_size);
    const torch::NoGradGuard no_grad;
    const auto ours = model->logits(ids)[0];
    const double largest = ours.abs().max().item<double>();
    EXPECT_LT(distance(theirs.logits(ids[0]), ours), 2e-6 * largest + 1e-6) << largest;
    EXPECT_EQ(theirs.unused(), std::set<std::string>());
  }
  static std::string refusal(const ModelConfig& config, ForeignFormat form) {
    Gpt model = make_model(config);
    try {
      foreign_model(file_of(config, model), form);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_input);
      return error.what();
    }
    return "none";
  }

  TempFolder folder_;
};

const Change kParallel = [](ModelConfig& config) { config.parallel_block = true; };
const Change kGelu = [](ModelConfig& config) { config.mlp_kind = MlpKind::gelu; };
const Change kRelu2 = [](ModelConfig& config) { config.mlp_kind = MlpKind::relu2; };
const Change kQkNorm = [](ModelConfig& config) { config.qk_norm = true; };
const Change kAllHeads = [](ModelConfig& config) { config.num_kv_heads = config.num_heads; };
Change rope_dims(int dims) {
  return [=](ModelConfig& config) { config.rope_dims = dims; };
}

TEST_F(ForeignModels, SequentialBlocksArePhi3) {
  for (const int dims : {0, 2, 4, 6, 8}) expect_equal("phi3", {rope_dims(dims)});
  expect_equal("phi3", {kAllHeads});
  expect_equal("phi3", {[](ModelConfig& config) { config.tie_embeddings = true; }});
  expect_equal("phi3", {[](ModelConfig& config) { config.ln_scale = true; }});
  expect_equal("phi3", {[](ModelConfig& config) { config.norm_weights = false; }});
}

TEST_F(ForeignModels, ParallelBlocksAreStableLm) {
  for (const int dims : {0, 2, 4, 6, 8}) expect_equal("stablelm", {kParallel, rope_dims(dims)});
  expect_equal("stablelm", {kParallel, kAllHeads});
}

TEST_F(ForeignModels, NormsOfQueriesAndKeysAreStableLms) {
  for (const int dims : {0, 4, 8}) {
    expect_equal("stablelm", {kQkNorm, rope_dims(dims)});
    expect_equal("stablelm", {kQkNorm, kParallel, rope_dims(dims)});
  }
}

TEST_F(ForeignModels, MlpsOfTwoMatricesAreGptNeox) {
  for (const auto& kind : {kGelu, kRelu2}) {
    for (const int dims : {0, 4, 8}) {
      expect_equal("gpt_neox", {kind, rope_dims(dims)});
      expect_equal("gpt_neox", {kind, kParallel, rope_dims(dims)});
    }
  }
}

TEST_F(ForeignModels, RotationsBecomePrefixesInHalves) {
  for (const RopeStyle style : {RopeStyle::half, RopeStyle::interleaved}) {
    for (const RopeSelect select : {RopeSelect::prefix, RopeSelect::high, RopeSelect::uniform}) {
      for (const int dims : {2, 4, 8}) {
        expect_equal("phi3", {rope_dims(dims), [&](ModelConfig& config) {
                                config.rope.style = style;
                                config.rope.select = select;
                              }});
      }
    }
  }
  expect_equal("phi3", {[](ModelConfig& config) {
                 config.rope.scaling = RopeScaling::ntk;
                 config.rope.scaling_factor = 4;
               }});
}

TEST_F(ForeignModels, LoopsBecomeLayers) {
  const Change loops = [](ModelConfig& config) {
    config.num_layers = 3;
    config.num_loops = 2;
    config.loop_start = config.loop_end = 1;
  };
  expect_equal("phi3", {loops});
  const ModelConfig config = exportable_config({loops});
  Gpt model = make_random_model(config);
  EXPECT_EQ(exported(config, model).config()["num_hidden_layers"], 5);
}

TEST_F(ForeignModels, WeightsAreRoundedOnceFromFoldedOnes) {
  const ModelConfig config = exportable_config();
  Gpt model = make_random_model(config);
  EXPECT_EQ(exported(config, model, WeightDtype::bfloat16).dtypes(), std::set<DType>{DType::bfloat16});
  EXPECT_EQ(exported(config, model, WeightDtype::float16).config()["torch_dtype"], "float16");
  const auto& block = *model->blocks[0];
  const auto expected = (block.attn_scale.to(at::kDouble).view({-1, 1}) * block.attn->proj->weight.to(at::kDouble)).to(at::kHalf);
  const auto stored = load_safetensors(folder_ / "hf/model.safetensors").tensors;
  const auto found = std::find_if(stored.begin(), stored.end(),
                                  [](const auto& entry) { return entry.first == "model.layers.0.self_attn.o_proj.weight"; });
  ASSERT_NE(found, stored.end());
  EXPECT_TRUE(at::equal(to_tensor(found->second), expected));
}

TEST_F(ForeignModels, AFloat16OverflowIsAnError) {
  const ModelConfig config = exportable_config();
  Gpt model = make_random_model(config);
  {
    const torch::NoGradGuard no_grad;
    model->blocks[1]->mlp_scale[3] = 1e6;
  }
  EXPECT_THROW(exported(config, model, WeightDtype::float16), Error);
  exported(config, model, WeightDtype::bfloat16);
}

TEST_F(ForeignModels, WhatStandsInTheWayIsNamed) {
  const std::pair<const char*, Change> obstacles[] = {
      {"UNET_SKIPS=1", [](ModelConfig& config) { config.unet_skips = true; }},
      {"RESID_MIX=1", [](ModelConfig& config) { config.resid_mix = true; }},
      {"LOGIT_SOFTCAP=30.0", [](ModelConfig& config) { config.logit_softcap = 30; }},
      {"PARALLEL_RESIDUAL_START=1", [](ModelConfig& config) { config.parallel_residual_start = 1; }},
      {"XSA_LAST_N=1", [](ModelConfig& config) { config.xsa_last_n = 1; }},
      {"ATTENTION_WINDOW=full,8", [](ModelConfig& config) { config.attention_window = {0, 8}; }},
      {"KEY_OFFSET=1", [](ModelConfig& config) { config.key_offset = true; }},
      {"SMEAR_GATE=1", [](ModelConfig& config) { config.smear_gate = true; }},
      {"BIGRAM_VOCAB_SIZE=7", [](ModelConfig& config) { config.bigram_vocab_size = 7; }},
      {"VE_LAYERS=1", [](ModelConfig& config) { config.ve_layers = {1}; }},
      {"ROPE_LAYERS=4,none",
       [](ModelConfig& config) {
         config.rope_dims = {4, 0};
       }},
      {"ROPE_SELECT=low", [](ModelConfig& config) { config.rope.select = RopeSelect::low; }},
      {"ROPE_SELECT=uniform",
       [](ModelConfig& config) {  // pairs 0, 2 and 5 of 8
         config.num_heads = config.num_kv_heads = 2;
         config.rope.select = RopeSelect::uniform;
         config.rope_dims = 6;
       }},
      {"ROPE_SCALING=linear",
       [](ModelConfig& config) { config.rope.scaling = RopeScaling::linear, config.rope.scaling_factor = 2; }},
      {"ROPE_TABLE_DTYPE=bfloat16", [](ModelConfig& config) { config.rope.table_dtype = RopeTableDtype::bfloat16; }},
      {"MLP_KIND=relu3", [](ModelConfig& config) { config.mlp_kind = MlpKind::relu3; }},
      {"QK_NORM=1", [](ModelConfig& config) { config.qk_norm = true, config.mlp_kind = MlpKind::gelu; }},
  };
  for (const auto& [name, change] : obstacles) {
    for (const ForeignFormat form : {ForeignFormat::hf, ForeignFormat::gguf}) {
      const std::string message = refusal(exportable_config({change}), form);
      EXPECT_TRUE(message.ends_with(std::string(" computes a model with ") + name)) << message << " " << name;
    }
  }
  EXPECT_EQ(refusal(exportable_config({kRelu2}), ForeignFormat::hf), "none");
  EXPECT_EQ(refusal(exportable_config({kRelu2}), ForeignFormat::gguf),
            "model.pt: no architecture of llama.cpp computes a model with MLP_KIND=relu2");
  EXPECT_EQ(
      refusal(tiny_config(), ForeignFormat::hf),
      "model.pt: no architecture of transformers computes a model with UNET_SKIPS=1 RESID_MIX=1 LOGIT_SOFTCAP=30.0 QK_NORM=1");
}

// The tensors of a GGUF are those of the folder; only names and the order of qkv differ. Values of a few that say most.
TEST_F(ForeignModels, GgufHasTheSameTensors) {
  const auto tensors = [&](const std::vector<Change>& changes, ForeignFormat form) {
    const ModelConfig config = exportable_config(changes);
    Gpt model = make_random_model(config);
    std::map<std::string, at::Tensor> out;
    for (const auto& [name, tensor] : foreign_tensors(foreign_model(file_of(config, model), form), form, WeightDtype::bfloat16))
      EXPECT_TRUE(out.emplace(name, tensor).second) << name;
    return out;
  };
  const auto same = [](const at::Tensor& a, const at::Tensor& b) { return at::equal(a.to(at::kFloat), b.to(at::kFloat)); };
  {
    const auto hf = tensors({}, ForeignFormat::hf), gguf = tensors({}, ForeignFormat::gguf);
    EXPECT_EQ(hf.size(), gguf.size());
    EXPECT_TRUE(same(gguf.at("blk.1.attn_qkv.weight"), hf.at("model.layers.1.self_attn.qkv_proj.weight")));
    EXPECT_TRUE(same(gguf.at("blk.1.ffn_up.weight"), hf.at("model.layers.1.mlp.gate_up_proj.weight")));
    EXPECT_EQ(gguf.at("blk.1.ffn_up.weight").scalar_type(), at::kBFloat16);
    EXPECT_EQ(gguf.at("blk.1.ffn_norm.weight").scalar_type(), at::kFloat);
  }
  {
    const auto hf = tensors({kQkNorm}, ForeignFormat::hf), gguf = tensors({kQkNorm}, ForeignFormat::gguf);
    EXPECT_TRUE(same(gguf.at("blk.0.attn_q_norm.weight")[2].to(at::kBFloat16),
                     hf.at("model.layers.0.self_attn.q_layernorm.norms.2.weight")));
    EXPECT_EQ(gguf.at("blk.0.attn_q_norm.weight").scalar_type(), at::kFloat);
    EXPECT_TRUE(same(gguf.at("blk.0.ffn_gate.weight"), hf.at("model.layers.0.mlp.gate_proj.weight")));
  }
  {
    const auto hf = tensors({kGelu}, ForeignFormat::hf), gguf = tensors({kGelu}, ForeignFormat::gguf);
    EXPECT_EQ(hf.size(), gguf.size());
    const auto by_head = hf.at("gpt_neox.layers.1.attention.query_key_value.weight").view({5, 3, 8, 40});
    EXPECT_TRUE(same(gguf.at("blk.1.attn_qkv.weight"), by_head.transpose(0, 1).reshape({120, 40})));
    EXPECT_TRUE(same(gguf.at("blk.1.ffn_up.bias"), at::zeros({64})));
  }
}

TEST_F(ForeignModels, GgufMetadata) {
  const ModelConfig config = exportable_config({kParallel, rope_dims(6)});
  Gpt model = make_random_model(config);
  const fs::path path = folder_ / "model.gguf";
  write_gguf(path, foreign_model(file_of(config, model), ForeignFormat::gguf), tokenizer(), WeightDtype::float16, "model");
  const std::string bytes = read_text(path);
  const auto number = [&](const std::string& key) {
    const size_t at = bytes.find(key);
    EXPECT_NE(at, std::string::npos) << key;
    uint32_t value = 0;
    std::memcpy(&value, bytes.data() + at + key.size() + 4, sizeof value);  // after the value's type
    return value;
  };
  EXPECT_TRUE(bytes.starts_with("GGUF"));
  EXPECT_EQ(number("general.file_type"), 1u);
  EXPECT_EQ(number("stablelm.embedding_length"), 48u);
  EXPECT_EQ(number("stablelm.attention.head_count"), 6u);
  EXPECT_EQ(number("stablelm.attention.head_count_kv"), 3u);
  EXPECT_EQ(number("stablelm.rope.dimension_count"), 6u);
  EXPECT_EQ(number("stablelm.context_length"), 24u);
  EXPECT_EQ(number("tokenizer.ggml.bos_token_id"), 1u);
  EXPECT_EQ(number("tokenizer.ggml.unknown_token_id"), 3u);
}

}  // namespace
}  // namespace pgolf::testing
