#include "pgolf/model/gpt.h"

#include <torch/nn/init.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <set>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/config/parameters.h"
#include "pgolf/ops/cross_entropy.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"

namespace pgolf {

GptImpl::GptImpl(const ModelConfig& config, OpsPath path)
    : config_(config), path_(path), tables_(std::make_shared<ops::RopeTableCache>()) {
  set_extra_passes(config.num_loops);
  const int64_t dim = config.model_dim;
  if (config.unet_skips) skip_weights = register_parameter("skip_weights", torch::ones({config.skip_count(), dim}));
  if (config.skip_gates) skip_gates = register_parameter("skip_gates", torch::zeros({config.skip_count(), dim}));
  tok_emb = register_module("tok_emb", torch::nn::Embedding(config.vocab_size, dim));
  if (config.tie_embeddings) tied_head_.emplace(tok_emb->weight);
  if (config.bigram_vocab_size > 0) {
    constexpr double initial_scale = 0.05;
    bigram = register_module("bigram", ScaledEmbedding(config.bigram_vocab_size, config.bigram_dim, dim, initial_scale));
  }
  if (config.smear_gate) smear = register_module("smear", SmearGate(dim));
  torch::nn::ModuleList list;
  for (int i = 0; i < config.num_layers; ++i) {
    blocks.push_back(Block(config, i, path, tables_));
    list->push_back(blocks.back());
  }
  register_module("blocks", list);
  if (!config.ve_layers.empty()) {
    constexpr double initial_scale = 0.1;
    ve_shared = register_module("ve_shared", ScaledEmbedding(config.vocab_size, config.ve_dim, config.kv_dim(), initial_scale));
    ve_layer_scales = register_module("ve_layer_scales", torch::nn::ParameterList());
    for (size_t i = 0; i < config.ve_layers.size(); ++i) ve_layer_scales->append(torch::ones({1}, torch::requires_grad()));
  }
  if (config.norm_weights) final_norm = register_module("final_norm", NormWeight(dim));
  if (!config.tie_embeddings) lm_head = register_module("lm_head", CastedLinear(dim, config.vocab_size));

  auto made = named_parameters();
  for (const Parameter& parameter : model_parameters(config)) {
    if (parameter.initialization == Initialization::normal)
      torch::nn::init::normal_(made[parameter.name], 0.0, parameter.init_std);
    if (parameter.initialization == Initialization::orthogonal) torch::nn::init::orthogonal_(made[parameter.name]);
    if (parameter.initialization == Initialization::zeros) torch::nn::init::zeros_(made[parameter.name]);
  }
}

void GptImpl::set_extra_passes(int passes) {
  TORCH_CHECK(passes >= 0 && passes <= config_.num_loops, "a model with NUM_LOOPS=", config_.num_loops, " cannot make ", passes,
              " extra passes");
  extra_passes_ = passes;
  order_ = config_.order(passes);
}

void GptImpl::drop_rotation() {
  config_.rope_dims = 0;
  for (auto& block : blocks) block->attn->rotary->drop();
  *tables_ = {};
}

at::Tensor GptImpl::with_skip(const at::Tensor& x, const at::Tensor& skip, int64_t row) {
  if (skip_gates.defined()) return ops::gated_skip(x, skip, skip_weights[row], skip_gates[row], path_);
  return ops::scaled_add(x, skip_weights[row], skip, path_);
}

at::Tensor GptImpl::embedded(const at::Tensor& input_ids, KvCache* cache) {
  if (!bigram && !smear) return ops::rms_norm(tok_emb(input_ids), path_);
  // The first new position takes the embedding of the position before, and that one its own token before it.
  constexpr int64_t tokens_before = 2;
  const auto ids = cache != nullptr ? cache->append_tokens(input_ids, tokens_before) : input_ids;
  auto x = tok_emb(ids);
  if (bigram) x = x + bigram(bigram_rows(ids, config_.bigram_vocab_size), path_);
  x = ops::rms_norm(x, path_);
  if (smear) x = smear(x, path_);
  const int64_t before = ids.size(1) - input_ids.size(1);
  return before == 0 ? x : x.slice(1, before);
}

at::Tensor GptImpl::values_of(int layer, const at::Tensor& values) {
  const auto& layers = config_.ve_layers;
  const auto found = std::find(layers.begin(), layers.end(), layer);
  if (found == layers.end()) return {};
  return values * ve_layer_scales->at(static_cast<size_t>(found - layers.begin())).to(values.scalar_type());
}

at::Tensor GptImpl::hidden(const at::Tensor& input_ids, KvCache* cache) {
  auto x = embedded(input_ids, cache);
  const auto x0 = x;
  const auto values = ve_shared ? ve_shared(input_ids, path_) : at::Tensor();
  BlockPass pass;
  pass.cache = cache;
  const auto run = [&](int layer) {
    pass.values = values_of(layer, values);
    x = blocks[static_cast<size_t>(layer)](x, x0, pass);
    ++pass.index;
  };
  std::vector<at::Tensor> skips;
  for (const int layer : order_.encoder) {
    run(layer);
    if (skip_weights.defined()) skips.push_back(x);
  }
  for (size_t step = 0; step < order_.decoder.size(); ++step) {
    if (!skips.empty()) {
      x = with_skip(x, skips.back(), static_cast<int64_t>(step));
      skips.pop_back();
    }
    run(order_.decoder[step]);
  }
  const auto normed = ops::rms_norm(x, path_);
  if (cache != nullptr) cache->advance(input_ids.size(1));
  return final_norm ? final_norm(normed) : normed;
}

at::Tensor GptImpl::raw_logits(const at::Tensor& features) {
  return lm_head ? lm_head(features, path_) : ops::linear(features, *tied_head_, path_);
}

at::Tensor GptImpl::capped_logits(const at::Tensor& features) {
  auto raw = raw_logits(features.reshape({-1, features.size(-1)}));
  // As in the fused loss: the product's rounding is the only one.
  if (path_ == OpsPath::fast) raw = raw.to(at::kFloat);
  const auto logits = ops::softcap(raw, config_.logit_softcap);
  return logits.view({features.size(0), features.size(1), -1});
}

at::Tensor GptImpl::forward(const at::Tensor& input_ids, const at::Tensor& target_ids, double gradient) {
  return ops::softcap_cross_entropy(raw_logits(hidden(input_ids).flatten(0, 1)), target_ids.reshape(-1), config_.logit_softcap,
                                    path_, gradient);
}

at::Tensor GptImpl::token_losses(const at::Tensor& input_ids, const at::Tensor& target_ids) {
  const torch::NoGradGuard no_grad;
  const auto scored = hidden(input_ids).slice(1, input_ids.size(1) - target_ids.size(1));
  const auto losses =
      ops::softcap_token_losses(raw_logits(scored.flatten(0, 1)), target_ids.reshape(-1), config_.logit_softcap, path_);
  return losses.view(target_ids.sizes());
}

at::Tensor GptImpl::logits(const at::Tensor& input_ids) {
  return capped_logits(hidden(input_ids));
}

at::Tensor GptImpl::extend(const at::Tensor& input_ids, KvCache& cache, Positions positions) {
  TORCH_CHECK(cache.passes() == order_.passes(), "the cache has ", cache.passes(), " passes, the model makes ", order_.passes());
  const torch::NoGradGuard no_grad;
  const auto features = hidden(input_ids, &cache);
  return capped_logits(positions == Positions::last ? features.narrow(1, features.size(1) - 1, 1) : features);
}

bool is_control_tensor(const std::string& name, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return name.find(pattern) != std::string::npos; });
}

void set_parameter_precision(Gpt& model, at::ScalarType compute, const std::vector<std::string>& control_patterns) {
  if (compute != at::kBFloat16) return;
  torch::NoGradGuard no_grad;
  auto made = model->named_parameters();
  for (const Parameter& parameter : model_parameters(model->config())) {
    auto& tensor = made[parameter.name];
    const auto rounded = tensor.to(at::kBFloat16);
    const bool stays = parameter.role == ParameterRole::embedding && !is_control_tensor(parameter.name, control_patterns);
    tensor.set_data(stays ? rounded : rounded.to(at::kFloat));
  }
}

StateDict state_dict(Gpt& model) {
  StateDict state;
  for (const auto& item : model->named_parameters()) state.emplace_back(item.key(), item.value().detach());
  return state;
}

void load_state_dict(Gpt& model, const StateDict& state, const std::string& where) {
  torch::NoGradGuard no_grad;
  auto parameters = model->named_parameters();
  std::set<std::string> seen;
  for (const auto& [name, value] : state) {
    auto* parameter = parameters.find(name);
    if (parameter == nullptr)
      throw Error(ExitCode::bad_input, format("%s: tensor %s is not in the model", where.c_str(), name.c_str()));
    if (parameter->sizes() != value.sizes()) {
      throw Error(ExitCode::bad_input, format("%s: %s has shape %s, the model needs %s", where.c_str(), name.c_str(),
                                              c10::str(value.sizes()).c_str(), c10::str(parameter->sizes()).c_str()));
    }
    if (!seen.insert(name).second)
      throw Error(ExitCode::bad_input, format("%s: tensor %s appears twice", where.c_str(), name.c_str()));
    parameter->copy_(value);
  }
  for (const auto& item : parameters) {
    if (seen.count(item.key()) == 0)
      throw Error(ExitCode::bad_input, format("%s: tensor %s is missing", where.c_str(), item.key().c_str()));
  }
}

std::vector<std::string> upstream_module_paths(const ModelConfig& config) {
  std::vector<std::string> paths{"", "tok_emb"};
  const auto add_scaled_embedding = [&](const std::string& name, int64_t dim, int64_t width) {
    for (const char* child : {"", ".embed", ".proj"}) {
      if (dim != width || child != std::string_view(".proj")) paths.push_back(name + child);
    }
  };
  if (config.bigram_vocab_size > 0) add_scaled_embedding("bigram", config.bigram_dim, config.model_dim);
  if (config.smear_gate) paths.emplace_back("smear");
  paths.emplace_back("blocks");
  for (int i = 0; i < config.num_layers; ++i) {
    const std::string block = format("blocks.%d", i);
    for (const char* child : {"", ".attn_norm", ".mlp_norm", ".attn", ".attn.c_q", ".attn.c_k", ".attn.c_v", ".attn.proj",
                              ".attn.rotary", ".mlp", ".mlp.fc", ".mlp.gate", ".mlp.proj"}) {
      if (config.mlp_kind == MlpKind::swiglu || child != std::string_view(".mlp.gate")) paths.push_back(block + child);
    }
  }
  if (!config.ve_layers.empty()) {
    add_scaled_embedding("ve_shared", config.ve_dim, config.kv_dim());
    paths.emplace_back("ve_layer_scales");
  }
  paths.push_back("final_norm");
  if (!config.tie_embeddings) paths.push_back("lm_head");
  return paths;
}

}  // namespace pgolf
