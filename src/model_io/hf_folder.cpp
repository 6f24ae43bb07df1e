// write_hf_folder(): configurations as transformers' versions 4 and 5 read them.
#include <cmath>
#include <nlohmann/json.hpp>

#include "pgolf/artifact/safetensors.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/data/tokenizer_json.h"
#include "pgolf/model_io/foreign_model.h"
#include "pgolf/model_io/tensors.h"

namespace pgolf {
namespace {

using nlohmann::json;

const char* activation(MlpKind kind) {
  switch (kind) {
    case MlpKind::swiglu:
      return "silu";
    case MlpKind::relu2:
      return "relu2";
    default:
      return "gelu";
  }
}

/// transformers truncates head_dim * factor to an integer, which must be rope_dims.
double partial_factor(const PlainModel& model) {
  double factor = static_cast<double>(model.rope_dims) / static_cast<double>(model.head_dim);
  while (static_cast<int>(static_cast<double>(model.head_dim) * factor) < model.rope_dims) factor = std::nextafter(factor, 1);
  return factor;
}

json token_id(int id) {
  return id < 0 ? json(nullptr) : json(id);
}

json config(const ForeignModel& foreign, const Tokenizer& tokenizer, WeightDtype dtype) {
  const PlainModel& model = foreign.model;
  const double factor = partial_factor(model);
  json out{{"model_type", architecture_name(foreign.architecture)},
           {"torch_dtype", enum_text(dtype)},
           {"vocab_size", model.vocab_size},
           {"hidden_size", model.width},
           {"intermediate_size", model.hidden},
           {"num_hidden_layers", model.layers.size()},
           {"num_attention_heads", model.heads},
           {"num_key_value_heads", model.kv_heads},
           {"hidden_act", activation(model.mlp)},
           {"max_position_embeddings", foreign.context_length},
           {"tie_word_embeddings", false},
           {"use_cache", true},
           {"attention_dropout", 0.0},
           {"bos_token_id", token_id(tokenizer.bos_id())},
           {"eos_token_id", token_id(tokenizer.eos_id())},
           {"pad_token_id", token_id(tokenizer.pad_id())},
           {model.layer_norms ? "layer_norm_eps" : "rms_norm_eps", model.norm_eps},
           // Version 5, and below version 4.
           {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", model.rope_base}, {"partial_rotary_factor", factor}}},
           {"rope_theta", model.rope_base},
           {"partial_rotary_factor", factor}};
  switch (foreign.architecture) {
    case Architecture::phi3:
      out.update({{"architectures", {"Phi3ForCausalLM"}},
                  {"original_max_position_embeddings", foreign.context_length},
                  {"sliding_window", nullptr}});
      break;
    case Architecture::stablelm:
      out.update({{"architectures", {"StableLmForCausalLM"}},
                  {"use_parallel_residual", model.parallel},
                  {"qk_layernorm", model.qk_norm()},
                  {"use_qkv_bias", false}});
      break;
    case Architecture::gpt_neox:
      out.update({{"architectures", {"GPTNeoXForCausalLM"}},
                  {"use_parallel_residual", model.parallel},
                  {"rotary_pct", factor},
                  {"rotary_emb_base", model.rope_base}});
      break;
  }
  return out;
}

/// Generation ends as ours does, at BOS or EOS.
json generation_config(const Tokenizer& tokenizer) {
  json out{{"bos_token_id", token_id(tokenizer.bos_id())}, {"pad_token_id", token_id(tokenizer.pad_id())}};
  if (const auto ends = tokenizer.document_ends(); !ends.empty()) out["eos_token_id"] = ends;
  return out;
}

}  // namespace

void write_hf_folder(const std::filesystem::path& folder, const ForeignModel& model, const Tokenizer& tokenizer,
                     WeightDtype dtype) {
  const std::string pieces = tokenizer_json(tokenizer);  // before anything is written: it may refuse the tokenizer
  Safetensors weights{.tensors = {}, .metadata = safetensors_metadata({})};
  for (const auto& [name, tensor] : foreign_tensors(model, ForeignFormat::hf, dtype))
    weights.tensors.emplace_back(name, to_raw(tensor));
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  if (!error) std::filesystem::remove(folder / "config.json", error);
  if (error) throw Error(ExitCode::io, format("cannot write to %s: %s", folder.c_str(), error.message().c_str()));
  save_safetensors(folder / "model.safetensors", weights);
  write_atomic(folder / "tokenizer.json", pieces);
  write_atomic(folder / "tokenizer_config.json", tokenizer_config_json(tokenizer, model.context_length));
  write_atomic(folder / "generation_config.json", generation_config(tokenizer).dump(1) + "\n");
  write_atomic(folder / "config.json", config(model, tokenizer, dtype).dump(1) + "\n");
}

}  // namespace pgolf
