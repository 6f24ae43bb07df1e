// The models of a Hugging Face folder by their definitions (Phi-3, StableLM, GPT-NeoX), in float64 and plain ATen: read from the
// files alone, without anything that wrote them.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "pgolf/artifact/safetensors.h"
#include "pgolf/model_io/tensors.h"
#include "support/files.h"

namespace pgolf::testing {

class HfFolder {
 public:
  explicit HfFolder(const fs::path& folder) : config_(nlohmann::json::parse(read_text(folder / "config.json"))) {
    for (const auto& [name, raw] : load_safetensors(folder / "model.safetensors").tensors) {
      dtypes_.insert(raw.dtype);
      unused_.insert(name);
      tensors_.emplace(name, to_tensor(raw).to(at::kDouble));
    }
    width_ = integer("hidden_size");
    heads_ = integer("num_attention_heads");
    head_dim_ = width_ / heads_;
    const auto& rope = config_["rope_parameters"];
    rope_dims_ = static_cast<int64_t>(static_cast<double>(head_dim_) * rope["partial_rotary_factor"].get<double>());
    theta_ = rope["rope_theta"];
  }

  const nlohmann::json& config() const { return config_; }
  const std::set<DType>& dtypes() const { return dtypes_; }
  const std::set<std::string>& unused() const { return unused_; }  ///< tensors that logits() did not look at

  /// [T] -> [T, V].
  at::Tensor logits(const at::Tensor& ids) {
    const std::string kind = config_["model_type"];
    if (kind == "gpt_neox") return neox(ids);
    auto x = weight("model.embed_tokens").index_select(0, ids);
    for (int64_t i = 0; i < integer("num_hidden_layers"); ++i)
      x = kind == "phi3" ? phi3(x, layer("model.layers.", i)) : stablelm(x, layer("model.layers.", i));
    const auto normed = kind == "phi3" ? rms(x, "model.norm") : layer_norm(x, "model.norm");
    return at::linear(normed, weight("lm_head"));
  }

 private:
  int64_t integer(const char* key) const { return config_.at(key).get<int64_t>(); }
  static std::string layer(const char* prefix, int64_t i) { return prefix + std::to_string(i) + "."; }
  at::Tensor get(const std::string& name) {
    unused_.erase(name);
    return tensors_.at(name);
  }
  at::Tensor weight(const std::string& name) { return get(name + ".weight"); }
  at::Tensor biased(const at::Tensor& x, const std::string& name) { return at::linear(x, weight(name), get(name + ".bias")); }

  at::Tensor rms(const at::Tensor& x, const std::string& name) {
    const double eps = config_.at("rms_norm_eps");
    return x * (x.square().mean(-1, true) + eps).rsqrt() * weight(name);
  }
  at::Tensor centered(const at::Tensor& x) const {
    const double eps = config_.at("layer_norm_eps");
    const auto around = x - x.mean(-1, true);
    return around * (around.square().mean(-1, true) + eps).rsqrt();
  }
  at::Tensor layer_norm(const at::Tensor& x, const std::string& name) { return centered(x) * weight(name) + get(name + ".bias"); }
  at::Tensor activation(const at::Tensor& x) const {
    const std::string name = config_.at("hidden_act");
    return name == "silu" ? at::silu(x) : name == "gelu" ? at::gelu(x) : at::relu(x).square();
  }

  /// [heads, T, head_dim]: x cos + rotate_half(x) sin in the first dimensions, rotate_half (x1, x2) -> (-x2, x1).
  at::Tensor rotated(const at::Tensor& x) const {
    if (rope_dims_ == 0) return x;
    const auto pairs = at::arange(0, rope_dims_, 2, at::kDouble) / rope_dims_;
    const auto angles = at::outer(at::arange(0, x.size(1), at::kDouble), at::pow(theta_, pairs).reciprocal());
    const auto parts = x.narrow(-1, 0, rope_dims_).chunk(2, -1);
    return at::cat({parts[0] * angles.cos() - parts[1] * angles.sin(), parts[1] * angles.cos() + parts[0] * angles.sin(),
                    x.narrow(-1, rope_dims_, head_dim_ - rope_dims_)},
                   -1);
  }

  /// q [T, heads, head_dim], k and v [T, kv_heads, head_dim] -> [T, width].
  at::Tensor attention(at::Tensor q, at::Tensor k, at::Tensor v) const {
    const int64_t time = q.size(0), copies = heads_ / k.size(1);
    q = rotated(q.transpose(0, 1));
    k = rotated(k.transpose(0, 1)).repeat_interleave(copies, 0);
    v = v.transpose(0, 1).repeat_interleave(copies, 0);
    const auto scores = q.matmul(k.transpose(1, 2)) / std::sqrt(static_cast<double>(head_dim_));
    const auto later = at::ones({time, time}, at::kBool).triu(1);
    return scores.masked_fill(later, -INFINITY).softmax(-1).matmul(v).transpose(0, 1).reshape({time, -1});
  }

  at::Tensor phi3(at::Tensor x, const std::string& at_layer) {
    const auto qkv =
        at::linear(rms(x, at_layer + "input_layernorm"), weight(at_layer + "self_attn.qkv_proj")).unflatten(-1, {-1, head_dim_});
    const int64_t kv = integer("num_key_value_heads");
    const auto y = attention(qkv.narrow(1, 0, heads_), qkv.narrow(1, heads_, kv), qkv.narrow(1, heads_ + kv, kv));
    x = x + at::linear(y, weight(at_layer + "self_attn.o_proj"));
    const auto both =
        at::linear(rms(x, at_layer + "post_attention_layernorm"), weight(at_layer + "mlp.gate_up_proj")).chunk(2, -1);
    return x + at::linear(activation(both[0]) * both[1], weight(at_layer + "mlp.down_proj"));
  }

  at::Tensor head_norm(const at::Tensor& x, const std::string& name) {
    std::vector<at::Tensor> weights;
    for (int64_t head = 0; head < x.size(1); ++head) weights.push_back(weight(name + ".norms." + std::to_string(head)));
    return centered(x) * at::stack(weights);
  }

  at::Tensor stablelm(const at::Tensor& x, const std::string& at_layer) {
    const auto normed = layer_norm(x, at_layer + "input_layernorm");
    const auto heads = [&](const char* name) {
      return at::linear(normed, weight(at_layer + "self_attn." + name)).unflatten(-1, {-1, head_dim_});
    };
    auto q = heads("q_proj"), k = heads("k_proj");
    if (config_.at("qk_layernorm")) {
      q = head_norm(q, at_layer + "self_attn.q_layernorm");
      k = head_norm(k, at_layer + "self_attn.k_layernorm");
    }
    const auto attended = x + at::linear(attention(q, k, heads("v_proj")), weight(at_layer + "self_attn.o_proj"));
    const auto mlp_input =
        config_.at("use_parallel_residual") ? normed : layer_norm(attended, at_layer + "post_attention_layernorm");
    const auto gate = activation(at::linear(mlp_input, weight(at_layer + "mlp.gate_proj")));
    return attended +
           at::linear(gate * at::linear(mlp_input, weight(at_layer + "mlp.up_proj")), weight(at_layer + "mlp.down_proj"));
  }

  at::Tensor neox(const at::Tensor& ids) {
    auto x = weight("gpt_neox.embed_in").index_select(0, ids);
    for (int64_t i = 0; i < integer("num_hidden_layers"); ++i) {
      const std::string at_layer = layer("gpt_neox.layers.", i);
      const auto qkv = biased(layer_norm(x, at_layer + "input_layernorm"), at_layer + "attention.query_key_value")
                           .view({ids.size(0), heads_, 3, head_dim_});
      const auto attended =
          x + biased(attention(qkv.select(2, 0), qkv.select(2, 1), qkv.select(2, 2)), at_layer + "attention.dense");
      const auto& mlp_input = config_.at("use_parallel_residual") ? x : attended;
      const auto up = biased(layer_norm(mlp_input, at_layer + "post_attention_layernorm"), at_layer + "mlp.dense_h_to_4h");
      x = attended + biased(activation(up), at_layer + "mlp.dense_4h_to_h");
    }
    return at::linear(layer_norm(x, "gpt_neox.final_layer_norm"), weight("embed_out"));
  }

  nlohmann::json config_;
  std::map<std::string, at::Tensor> tensors_;
  std::set<DType> dtypes_;
  std::set<std::string> unused_;
  int64_t width_, heads_, head_dim_, rope_dims_;
  double theta_;
};

}  // namespace pgolf::testing
