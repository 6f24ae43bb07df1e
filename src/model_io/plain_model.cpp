#include "pgolf/model_io/plain_model.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "pgolf/base/format.h"
#include "pgolf/config/model_metadata.h"
#include "pgolf/config/parameters.h"

namespace pgolf {
namespace {

constexpr double kNormEps = std::numeric_limits<float>::epsilon();  // ops::rms_norm's, in float32

std::vector<int> rotated_pairs(const RopeSpec& spec) {
  std::vector<int> pairs;
  for (int pair = 0; pair < spec.span() / 2; ++pair) {
    if (spec.rotates(pair)) pairs.push_back(pair);
  }
  return pairs;
}

/// base' with base'^(-2i/rope_dims) = base^(-2 pairs[i]/span) for all i; none if there is no such number.
std::optional<double> base_of_prefix(const RopeSpec& spec) {
  const std::vector<int> pairs = rotated_pairs(spec);
  if (pairs.empty()) return spec.base;
  const int step = pairs.size() > 1 ? pairs[1] : 1;
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (pairs[i] != static_cast<int>(i) * step) return std::nullopt;
  }
  double base = spec.base;
  if (spec.scaling == RopeScaling::ntk) base *= std::pow(spec.scaling_factor, spec.span() / (spec.span() - 2.0));
  return step * spec.rope_dims == spec.span() ? base : std::pow(base, static_cast<double>(step * spec.rope_dims) / spec.span());
}

/// The head's dimensions in the order of PlainLayer: ops::apply_rope turns (a, b) by minus the angle, and so (b, a) by plus.
std::vector<int64_t> plain_order(const RopeSpec& spec) {
  const bool half = spec.style == RopeStyle::half;
  const int64_t pairs = spec.span() / 2;
  std::vector<int64_t> order;
  for (const int pair : rotated_pairs(spec)) order.push_back(half ? pair + pairs : 2 * pair + 1);
  for (const int pair : rotated_pairs(spec)) order.push_back(half ? pair : 2 * pair);
  std::vector<bool> placed(static_cast<size_t>(spec.head_dim));
  for (const int64_t dim : order) placed[static_cast<size_t>(dim)] = true;
  for (int64_t dim = 0; dim < spec.head_dim; ++dim) {
    if (!placed[static_cast<size_t>(dim)]) order.push_back(dim);
  }
  return order;
}

class Folding {
 public:
  Folding(const StateDict& state, const ModelConfig& model) : model_(model) {
    for (const auto& [name, tensor] : state) tensors_.emplace(name, tensor.to(at::kCPU, at::kDouble));
  }

  PlainModel run(const BlockOrder& order) const {
    const RopeSpec rope = model_.rope_of(0);
    PlainModel out{.width = model_.model_dim,
                   .hidden = model_.mlp_hidden(),
                   .heads = model_.num_heads,
                   .kv_heads = model_.num_kv_heads,
                   .head_dim = model_.head_dim(),
                   .vocab_size = model_.vocab_size,
                   .rope_dims = rope.rope_dims,
                   .rope_base = base_of_prefix(rope).value(),
                   .norm_eps = kNormEps,
                   .parallel = model_.parallel(0),
                   .mlp = model_.mlp_kind};
    for (const auto& half : {order.encoder, order.decoder}) {
      for (const int i : half) out.layers.push_back(layer(i));
    }
    const at::Tensor table = tensors_.at(parameter_name::token_embedding);
    out.embedding = table * (table.square().mean(-1, /*keepdim=*/true) + kNormEps).rsqrt();
    out.final_norm = norm(parameter_name::final_norm, 1);
    out.head = model_.tie_embeddings ? table : tensors_.at(parameter_name::head);
    return out;
  }

 private:
  at::Tensor norm(const std::string& name, double factor) const {
    return factor * (model_.norm_weights ? tensors_.at(name) : at::ones({model_.model_dim}, at::kDouble));
  }

  PlainLayer layer(int i) const {
    const auto tensor = [&](const char* name) { return tensors_.at(parameter_name::in_block(i, name)); };
    const int64_t dim = model_.model_dim;
    const at::Tensor order = at::tensor(plain_order(model_.rope_of(i)));
    const auto reordered = [&](const at::Tensor& rows) {
      return rows.view({-1, model_.head_dim(), dim}).index_select(1, order).reshape({-1, dim});
    };
    const double factor = model_.norm_factor(i);
    PlainLayer out;
    out.attn_norm = norm(parameter_name::in_block(i, parameter_name::attn_norm), factor);
    out.mlp_norm = model_.parallel(i) ? out.attn_norm : norm(parameter_name::in_block(i, parameter_name::mlp_norm), factor);
    const at::Tensor gain = tensor(parameter_name::q_gain).view({-1, 1});
    out.q = reordered(tensor("attn.c_q.weight"));
    out.k = reordered(tensor(parameter_name::key));
    if (model_.qk_norm) {
      out.q_norm = gain.expand({-1, model_.head_dim()});
      out.k_norm = at::ones({model_.num_kv_heads, model_.head_dim()}, at::kDouble);
    } else {
      out.q = (out.q.view({model_.num_heads, -1}) * gain).view_as(out.q);
    }
    out.v = tensor("attn.c_v.weight");
    out.attn_out = tensor("attn_scale").view({-1, 1}) * tensor("attn.proj.weight");
    if (model_.mlp_kind == MlpKind::swiglu) out.mlp_gate = tensor(parameter_name::mlp_gate);
    out.mlp_up = tensor(parameter_name::mlp_up);
    out.mlp_down = tensor("mlp_scale").view({-1, 1}) * tensor("mlp.proj.weight");
    return out;
  }

  const ModelConfig& model_;
  std::map<std::string, at::Tensor> tensors_;
};

}  // namespace

std::vector<std::string> not_plain(const ModelConfig& model) {
  std::vector<std::string> found;
  const ModelMetadata values = model_metadata(model, /*train_seq_len=*/1);
  const auto check = [&](bool fits, const char* name) {
    if (!fits) found.push_back(format("%s=%s", name, values.at(name).c_str()));
  };
  const RopeSpec rope = model.rope_of(0);
  bool same_rope = true, same_kind = true;
  for (int i = 1; i < model.num_layers; ++i) {
    same_rope = same_rope && model.rope_of(i) == rope;
    same_kind = same_kind && model.parallel(i) == model.parallel(0);
  }
  check(!model.unet_skips || model.skip_count() == 0, "UNET_SKIPS");
  check(!model.resid_mix, "RESID_MIX");
  check(model.logit_softcap == 0, "LOGIT_SOFTCAP");
  check(same_kind, "PARALLEL_RESIDUAL_START");
  check(model.xsa_last_n == 0, "XSA_LAST_N");
  check(!model.smear_gate, "SMEAR_GATE");
  check(model.bigram_vocab_size == 0, "BIGRAM_VOCAB_SIZE");
  check(model.ve_layers.empty(), "VE_LAYERS");
  check(std::all_of(model.attention_window.begin(), model.attention_window.end(), [](int window) { return window == 0; }),
        "ATTENTION_WINDOW");
  check(!model.key_offset, "KEY_OFFSET");
  check(same_rope, "ROPE_LAYERS");
  if (same_rope && !rope.none()) {
    check(base_of_prefix(rope).has_value(), "ROPE_SELECT");
    check(rope.scaling == RopeScaling::none || rope.scaling == RopeScaling::ntk, "ROPE_SCALING");
    check(rope.table_dtype == RopeTableDtype::float32, "ROPE_TABLE_DTYPE");
  }
  return found;
}

PlainModel plain_model(const StateDict& state, const ModelConfig& model, int extra_passes) {
  return Folding(state, model).run(model.order(extra_passes < 0 ? model.num_loops : extra_passes));
}

}  // namespace pgolf
