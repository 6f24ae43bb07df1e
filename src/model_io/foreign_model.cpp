#include "pgolf/model_io/foreign_model.h"

#include <torch/types.h>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

/// Of an architecture's tensors. A part without a name does not exist, or is in another one: qkv, gate_up.
struct Names {
  const char *embedding = nullptr, *final_norm = nullptr, *head = nullptr, *layers = nullptr;
  const char *attn_norm = nullptr, *mlp_norm = nullptr;
  const char* qkv = nullptr;
  const char *q = nullptr, *k = nullptr, *v = nullptr;
  const char *q_norm = nullptr, *k_norm = nullptr;
  const char *attn_out = nullptr, *gate_up = nullptr, *gate = nullptr, *up = nullptr, *down = nullptr;
  bool biases = false;         ///< matrices have them, but for embedding and head
  bool qkv_by_head = false;    ///< q, k and v of the first head, then those of the second
  bool norm_per_head = false;  ///< a tensor for each head's q_norm, named by its index
};

constexpr Names kHfPhi3{.embedding = "model.embed_tokens",
                        .final_norm = "model.norm",
                        .head = "lm_head",
                        .layers = "model.layers",
                        .attn_norm = "input_layernorm",
                        .mlp_norm = "post_attention_layernorm",
                        .qkv = "self_attn.qkv_proj",
                        .attn_out = "self_attn.o_proj",
                        .gate_up = "mlp.gate_up_proj",
                        .down = "mlp.down_proj"};
constexpr Names kHfStableLm{.embedding = "model.embed_tokens",
                            .final_norm = "model.norm",
                            .head = "lm_head",
                            .layers = "model.layers",
                            .attn_norm = "input_layernorm",
                            .mlp_norm = "post_attention_layernorm",
                            .q = "self_attn.q_proj",
                            .k = "self_attn.k_proj",
                            .v = "self_attn.v_proj",
                            .q_norm = "self_attn.q_layernorm.norms",
                            .k_norm = "self_attn.k_layernorm.norms",
                            .attn_out = "self_attn.o_proj",
                            .gate = "mlp.gate_proj",
                            .up = "mlp.up_proj",
                            .down = "mlp.down_proj",
                            .norm_per_head = true};
constexpr Names kHfGptNeox{.embedding = "gpt_neox.embed_in",
                           .final_norm = "gpt_neox.final_layer_norm",
                           .head = "embed_out",
                           .layers = "gpt_neox.layers",
                           .attn_norm = "input_layernorm",
                           .mlp_norm = "post_attention_layernorm",
                           .qkv = "attention.query_key_value",
                           .attn_out = "attention.dense",
                           .up = "mlp.dense_h_to_4h",
                           .down = "mlp.dense_4h_to_h",
                           .biases = true,
                           .qkv_by_head = true};

constexpr Names kGguf{.embedding = "token_embd",
                      .final_norm = "output_norm",
                      .head = "output",
                      .layers = "blk",
                      .attn_norm = "attn_norm",
                      .mlp_norm = "ffn_norm",
                      .attn_out = "attn_output",
                      .up = "ffn_up",
                      .down = "ffn_down"};

constexpr Names gguf_phi3() {
  Names names = kGguf;
  names.qkv = "attn_qkv";
  names.gate_up = "ffn_up";
  return names;
}
constexpr Names gguf_stablelm() {
  Names names = kGguf;
  names.q = "attn_q";
  names.k = "attn_k";
  names.v = "attn_v";
  names.q_norm = "attn_q_norm";
  names.k_norm = "attn_k_norm";
  names.gate = "ffn_gate";
  return names;
}
constexpr Names gguf_gpt_neox() {
  Names names = kGguf;
  names.qkv = "attn_qkv";
  names.biases = true;
  return names;
}

constexpr Names names_of(Architecture architecture, ForeignFormat format) {
  const bool hf = format == ForeignFormat::hf;
  switch (architecture) {
    case Architecture::phi3:
      return hf ? kHfPhi3 : gguf_phi3();
    case Architecture::stablelm:
      return hf ? kHfStableLm : gguf_stablelm();
    case Architecture::gpt_neox:
      break;
  }
  return hf ? kHfGptNeox : gguf_gpt_neox();
}

/// All tensors in float64.
class Lister {
 public:
  Lister(const ForeignModel& foreign, ForeignFormat form) : model_(foreign.model), names_(names_of(foreign.architecture, form)) {
    const bool one_norm = foreign.architecture == Architecture::stablelm && model_.parallel;
    add(names_.embedding, model_.embedding);
    for (size_t i = 0; i < model_.layers.size(); ++i) {
      prefix_ = format("%s.%zu.", names_.layers, i);
      const PlainLayer& layer = model_.layers[i];
      norm(names_.attn_norm, layer.attn_norm);
      if (!one_norm) norm(names_.mlp_norm, layer.mlp_norm);
      attention(layer);
      if (names_.gate_up != nullptr) {
        matrix(names_.gate_up, at::cat({layer.mlp_gate, layer.mlp_up}));
      } else {
        if (names_.gate != nullptr) matrix(names_.gate, layer.mlp_gate);
        matrix(names_.up, layer.mlp_up);
      }
      matrix(names_.down, layer.mlp_down);
    }
    prefix_.clear();
    norm(names_.final_norm, model_.final_norm);
    add(names_.head, model_.head);
  }

  StateDict tensors;

 private:
  void add(const std::string& name, const at::Tensor& weight) { tensors.emplace_back(prefix_ + name + ".weight", weight); }
  void zeros(const char* name, int64_t size) { tensors.emplace_back(prefix_ + name + ".bias", at::zeros({size}, at::kDouble)); }
  void norm(const char* name, const at::Tensor& weight) {
    add(name, weight);
    if (model_.layer_norms) zeros(name, weight.size(0));
  }
  void matrix(const char* name, const at::Tensor& weight) {
    add(name, weight);
    if (names_.biases) zeros(name, weight.size(0));
  }

  void attention(const PlainLayer& layer) {
    if (names_.qkv == nullptr) {
      matrix(names_.q, layer.q);
      matrix(names_.k, layer.k);
      matrix(names_.v, layer.v);
    } else if (names_.qkv_by_head) {
      const auto by_head = [&](const at::Tensor& rows) { return rows.view({model_.heads, model_.head_dim, -1}); };
      matrix(names_.qkv, at::cat({by_head(layer.q), by_head(layer.k), by_head(layer.v)}, 1).flatten(0, 1));
    } else {
      matrix(names_.qkv, at::cat({layer.q, layer.k, layer.v}));
    }
    if (layer.q_norm.defined()) {
      head_norms(names_.q_norm, layer.q_norm);
      head_norms(names_.k_norm, layer.k_norm);
    }
    matrix(names_.attn_out, layer.attn_out);
  }

  void head_norms(const std::string& name, const at::Tensor& weights) {
    if (!names_.norm_per_head) return add(name, weights);
    for (int64_t head = 0; head < weights.size(0); ++head) add(name + "." + std::to_string(head), weights[head]);
  }

  const PlainModel& model_;
  const Names names_;
  std::string prefix_;
};

/// Options that only keep the format's architectures from computing the model.
std::vector<std::string> not_known(const ModelConfig& model, ForeignFormat format) {
  const MlpKind kind = model.mlp_kind;
  // llama.cpp has no GPT-NeoX with another activation.
  const bool known = kind == MlpKind::swiglu || kind == MlpKind::gelu || (kind == MlpKind::relu2 && format == ForeignFormat::hf);
  std::vector<std::string> found;
  if (!known) found.push_back(std::string("MLP_KIND=") + enum_text(kind));
  // GPT-NeoX has no norms of q and k.
  if (known && kind != MlpKind::swiglu && model.qk_norm) found.emplace_back("QK_NORM=1");
  return found;
}

at::Tensor rounded(const std::string& name, const at::Tensor& tensor, at::ScalarType dtype) {
  const at::Tensor out = tensor.to(dtype).contiguous();
  if (!at::isfinite(out).all().item<bool>()) {
    throw Error(ExitCode::bad_input, format("%s has values that are not finite in %s", name.c_str(), at::toString(dtype)),
                "use --dtype float32 or bfloat16");
  }
  return out;
}

}  // namespace

const char* architecture_name(Architecture architecture) {
  switch (architecture) {
    case Architecture::phi3:
      return "phi3";
    case Architecture::stablelm:
      return "stablelm";
    case Architecture::gpt_neox:
      break;
  }
  return "gpt_neox";
}

ForeignModel foreign_model(const ModelFile& file, ForeignFormat form) {
  const ModelConfig& config = file.stored.model;
  std::vector<std::string> obstacles = not_plain(config);
  for (auto& option : not_known(config, form)) obstacles.push_back(std::move(option));
  if (!obstacles.empty()) {
    throw Error(ExitCode::bad_input,
                format("%s: no architecture of %s computes a model with %s", file.path.c_str(),
                       form == ForeignFormat::hf ? "transformers" : "llama.cpp", join(obstacles, " ").c_str()),
                "configs/hf_small.env trains a model that can be exported; docs/export.md lists the others");
  }
  ForeignModel out{Architecture::phi3, plain_model(file.state, config, file.extra_passes), file.stored.train_seq_len};
  if (config.mlp_kind != MlpKind::swiglu) {
    out.architecture = Architecture::gpt_neox;
    repeat_kv_heads(out.model);
  } else if (out.model.parallel || out.model.qk_norm()) {
    out.architecture = Architecture::stablelm;
  }
  if (out.architecture != Architecture::phi3) use_layer_norms(out.model);
  return out;
}

StateDict foreign_tensors(const ForeignModel& model, ForeignFormat format, WeightDtype dtype) {
  constexpr at::ScalarType types[] = {at::kFloat, at::kHalf, at::kBFloat16};  // in enum order
  const at::ScalarType type = types[static_cast<size_t>(dtype)];
  StateDict tensors = Lister(model, format).tensors;
  for (auto& [name, tensor] : tensors) {
    // llama.cpp's norms and biases are float32.
    const bool stays = format == ForeignFormat::gguf && (tensor.dim() == 1 || name.find("_norm.") != std::string::npos);
    tensor = rounded(name, tensor, stays ? at::kFloat : type);
  }
  return tensors;
}

}  // namespace pgolf
