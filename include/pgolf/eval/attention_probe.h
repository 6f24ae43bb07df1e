// What the attention heads of a model attend to, and how much the rotation contributes.
#pragma once

#include <vector>

#include "pgolf/model/gpt.h"

namespace pgolf {

/// Means over the queries i of T tokens; a_ij is the attention of query i to key j <= i. For comparison: a head that
/// attends to all keys equally has distance i/2, entropy ln(i+1) and first_token 1/(i+1), each averaged over i.
struct HeadAttention {
  double distance = 0;        ///< sum_j a_ij (i - j), tokens
  double entropy = 0;         ///< -sum_j a_ij ln a_ij, nats
  double first_token = 0;     ///< a_i0; includes query 0, which has no other key
  double previous_token = 0;  ///< a_i,i-1, over the queries from 1 on
  /// Mean over pairs j <= i of |r| / (|r| + |p|), where the logit is q_i.k_j = r + p: r over the dims that rotate, p over the
  /// others. Pairs with r = p = 0 are left out; 0 if no pairs remain.
  double rotated_share = 0;
};

/// Which dims of a head rotate. [head_dim] bool on the CPU.
at::Tensor rotated_dims(const RopeSpec& spec);

/// For every query head of q [1, Hq, T, D] and k [1, Hkv, T, D], as returned by CausalSelfAttention::heads(); rotated [D] bool:
/// the dims that rotate; window: see causal_attention. Scores are computed in blocks of queries, so memory does not grow with
/// T^2.
std::vector<HeadAttention> attention_of_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& rotated,
                                              int64_t window = 0);

/// For every query head, by pair that rotates, in order: mean over the same pairs j <= i of |r_p| / (sum over p of |r_p| + |p|),
/// r_p being that pair's part of the logit. What the frequencies are used for: arXiv 2410.06205, section 4. Arguments as above.
std::vector<std::vector<double>> pair_shares_of_heads(const at::Tensor& q, const at::Tensor& k, const RopeSpec& spec,
                                                      int64_t window = 0);

/// How far the attention logits q_i.k_j / sqrt(D), j <= i, are from depending on i - j only.
struct ShiftChange {
  double max_change = 0;  ///< largest |difference| of a logit when all positions are shifted
  double max_logit = 0;   ///< largest |logit| without the shift
};

/// Between the logits of (q, k) and of (shifted_q, shifted_k), in float64; shapes as above.
ShiftChange shift_change(const at::Tensor& q, const at::Tensor& k, const at::Tensor& shifted_q, const at::Tensor& shifted_k);

struct AttentionMeasures {
  std::vector<std::vector<HeadAttention>> heads;              ///< [layer][head], means over the windows and the layer's passes
  std::vector<std::vector<std::vector<double>>> pair_shares;  ///< [layer][head][rotating pair], likewise
  std::vector<ShiftChange> shifts;  ///< per shift, the maximum over all layers and heads, on the first window
};

/// windows [N, T] int64 on the model's device; shifts in tokens. The model runs as it is, but q and k are computed in float32
/// from the input of each layer's attention, whatever the compute dtype. Their tables are float32 (RopeTableDtype::bfloat16
/// excepted), with angles off by up to p * 6e-8 at position p, which is part of a shift's change.
AttentionMeasures measure_attention(Gpt& model, const at::Tensor& windows, const std::vector<int64_t>& shifts);

}  // namespace pgolf
