// A model as other programs know models: without the scales and the layout that only ours have, which are folded into the
// weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "pgolf/config/run_config.h"
#include "pgolf/model/state_dict.h"

namespace pgolf {

/// Matrices [out, in], all float64. Heads one after the other; in each head of q and k the rotated dimensions come first, as
/// pairs (i, i + rope_dims/2) that turn by plus the angle: (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin).
struct PlainLayer {
  at::Tensor attn_norm, mlp_norm;  ///< [width]; in parallel blocks equal
  at::Tensor q, k, v, attn_out;    ///< [heads * head_dim, width], [kv_heads * head_dim, width] twice, [width, heads * head_dim]
  at::Tensor q_norm, k_norm;       ///< [heads, head_dim], [kv_heads, head_dim], before the rotation; undefined: no norms
  at::Tensor mlp_gate, mlp_up, mlp_down;  ///< [hidden, width] twice, [width, hidden]; no gate unless swiglu
};

/// x = embedding[token]; per layer x += attn_out(attention(norm(x))), x += mlp(norm(x)), or in parallel blocks both at once, of
/// the same x; logits = head(norm(x)). Attention's scores are divided by sqrt(head_dim).
struct PlainModel {
  int64_t width = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab_size = 0;
  int rope_dims = 0;
  double rope_base = 10'000;  ///< pair i turns by rope_base^(-2i/rope_dims) per position
  double norm_eps = 0;        ///< of all norms
  bool layer_norms = false;   ///< all norms are LayerNorms with bias 0, not RMSNorms
  bool parallel = false;
  MlpKind mlp = MlpKind::swiglu;
  std::vector<PlainLayer> layers = {};                    ///< of a model with loops: one for each pass
  at::Tensor embedding = {}, final_norm = {}, head = {};  ///< [vocab_size, width], [width], [vocab_size, width]

  bool qk_norm() const { return layers.front().q_norm.defined(); }
};

/// The options of a model that have no place in a PlainModel, as "NAME=value"; empty if it can be made.
std::vector<std::string> not_plain(const ModelConfig& model);

/// Needs not_plain(model) to be empty. Folded in: the norm of the embedding into the table (so that head and embedding differ
/// even if ours are tied), LN_SCALE and norm weights into the norms, attn_scale, mlp_scale and q_gain into matrices (q_gain into
/// q_norm where there is one), ROPE_STYLE and ROPE_SELECT into the order of the rows of q and k, NTK scaling into the base, loops
/// into repeated layers. extra_passes: ModelFile::extra_passes.
PlainModel plain_model(const StateDict& state, const ModelConfig& model, int extra_passes);

/// A copy for every query head, so that kv_heads == heads.
void repeat_kv_heads(PlainModel& model);

/// The same function with LayerNorms, all of whose weights are 1 but those of q and k. A LayerNorm is an RMSNorm of x minus its
/// mean, so the stream is carried by an isometry into a wider one, onto vectors whose mean is 0 (as in arXiv 2401.15024, the
/// other way round). The width stays heads * head_dim: there are kv_heads / heads more heads of each kind, which are zero. With
/// norms of q and k head_dim is doubled instead, and a head's second half is minus its first.
void use_layer_norms(PlainModel& model);

}  // namespace pgolf
