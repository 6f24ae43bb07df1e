#include "pgolf/config/parameters.h"

#include <algorithm>

namespace pgolf {
namespace {

/// A matrix with a shorter side does not start as an orthogonal one.
constexpr int64_t min_orthogonal_size = 64;

}  // namespace

int64_t Parameter::numel() const {
  int64_t n = 1;
  for (const int64_t extent : shape) n *= extent;
  return n;
}

bool Parameter::in_block() const {
  return name.starts_with(parameter_name::blocks);
}

std::string parameter_name::in_block(int layer, const char* name) {
  return blocks + std::to_string(layer) + "." + name;
}

std::vector<Parameter> model_parameters(const ModelConfig& model) {
  std::vector<Parameter> out;
  const auto control = [&](std::string name, std::vector<int64_t> shape) { out.push_back({std::move(name), std::move(shape)}); };
  // INIT_STD applies to all weight matrices; without it they are initialized as upstream.
  const auto weight = [&](std::string name, int64_t rows, int64_t columns, ParameterRole role, Initialization default_init,
                          double default_std = 0) {
    const bool all_normal = model.init_std > 0;
    out.push_back({std::move(name),
                   {rows, columns},
                   role,
                   all_normal ? Initialization::normal : default_init,
                   all_normal ? model.init_std : default_std});
  };
  const int64_t dim = model.model_dim, kv_dim = model.kv_dim();
  const int64_t hidden = model.mlp_hidden();
  if (model.unet_skips) control(parameter_name::skip_weights, {model.skip_count(), dim});
  if (model.skip_gates) control(parameter_name::skip_gates, {model.skip_count(), dim});
  weight(parameter_name::token_embedding, model.vocab_size, dim, ParameterRole::embedding,
         model.tie_embeddings ? Initialization::normal : Initialization::as_constructed, model.tied_embed_init_std);
  // A table and its projection to `width`.
  const auto scaled_embedding = [&](const std::string& name, int64_t rows, int64_t columns, int64_t width,
                                    Initialization table_init, double table_std) {
    control(name + ".scale", {});
    weight(name + ".embed.weight", rows, columns, ParameterRole::embedding, table_init, table_std);
    if (columns == width) return;
    const bool orthogonal = std::min(columns, width) >= min_orthogonal_size;
    weight(name + ".proj.weight", width, columns, ParameterRole::matrix,
           orthogonal ? Initialization::orthogonal : Initialization::zeros);
  };
  if (model.bigram_vocab_size > 0)
    scaled_embedding("bigram", model.bigram_vocab_size, model.bigram_dim, dim, Initialization::zeros, 0);
  if (model.smear_gate) control(parameter_name::smear_gate, {dim});
  for (int i = 0; i < model.num_layers; ++i) {
    const auto named = [i](const char* name) { return parameter_name::in_block(i, name); };
    const auto matrix = [&](const char* name, int64_t rows, int64_t columns) {
      const bool orthogonal = model.orthogonal_init && std::min(rows, columns) >= min_orthogonal_size;
      weight(named(name), rows, columns, ParameterRole::matrix,
             orthogonal ? Initialization::orthogonal : Initialization::as_constructed);
    };
    const auto projection = [&](const char* name, int64_t rows, int64_t columns) {
      weight(named(name), rows, columns, ParameterRole::matrix, Initialization::zeros);
    };
    control(named("attn_scale"), {dim});
    control(named("mlp_scale"), {dim});
    if (model.resid_mix) control(named(parameter_name::resid_mix), {2, dim});
    if (model.norm_weights) {
      control(named(parameter_name::attn_norm), {dim});
      if (!model.parallel(i)) control(named(parameter_name::mlp_norm), {dim});
    }
    control(named(parameter_name::q_gain), {model.num_heads});
    matrix("attn.c_q.weight", dim, dim);
    matrix(parameter_name::key, kv_dim, dim);
    matrix("attn.c_v.weight", kv_dim, dim);
    projection("attn.proj.weight", dim, dim);
    matrix(parameter_name::mlp_up, hidden, dim);
    if (model.mlp_kind == MlpKind::swiglu) matrix(parameter_name::mlp_gate, hidden, dim);
    projection("mlp.proj.weight", dim, hidden);
  }
  if (!model.ve_layers.empty()) {
    scaled_embedding("ve_shared", model.vocab_size, model.ve_dim, kv_dim, Initialization::normal, 0.01);
    for (size_t i = 0; i < model.ve_layers.size(); ++i) control(parameter_name::value_scales + std::to_string(i), {1});
  }
  if (model.norm_weights) control(parameter_name::final_norm, {dim});
  if (!model.tie_embeddings) weight(parameter_name::head, model.vocab_size, dim, ParameterRole::head, Initialization::zeros);
  return out;
}

int64_t ModelConfig::parameter_count() const {
  int64_t count = 0;
  for (const Parameter& parameter : model_parameters(*this)) count += parameter.numel();
  return count;
}

}  // namespace pgolf
