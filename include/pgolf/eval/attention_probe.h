// What the attention heads of a model look at, and what of it the rotation decides.
#pragma once

#include <vector>

#include "pgolf/model/gpt.h"

namespace pgolf {

/// Means over the queries i of windows of T tokens; a_ij is the attention of query i to key j <= i. For comparison: a head that
/// attends to all keys alike has distance i/2, entropy ln(i+1) and first_token 1/(i+1), each averaged over i.
struct HeadAttention {
  double distance = 0;        ///< sum_j a_ij (i - j), tokens
  double entropy = 0;         ///< -sum_j a_ij ln a_ij, nats
  double first_token = 0;     ///< a_i0; query 0, which has no other, counts
  double previous_token = 0;  ///< a_i,i-1, over the queries from 1 on
  /// Mean over pairs j <= i of |r| / (|r| + |p|), where the logit is q_i.k_j = r + p: r over the lanes that rotate, p over the
  /// others. Pairs with r = p = 0 are left out; 0 if no others are left.
  double rotated_share = 0;
};

/// Lanes of a head that rotate. [head_dim] bool on the CPU.
at::Tensor rotated_lanes(const RopeSpec& spec);

/// Every query head of q [1, Hq, T, D] and k [1, Hkv, T, D], as CausalSelfAttention::heads() gives them, lanes [D] bool of those
/// that rotate. Scores are made a block of queries at a time: memory does not grow with T^2.
std::vector<HeadAttention> attention_of_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& lanes);

/// How far the attention logits q_i.k_j / sqrt(D), j <= i, are from depending on i - j only.
struct ShiftChange {
  double max_change = 0;  ///< largest |difference| of a logit when all positions are moved
  double max_logit = 0;   ///< largest |logit| without
};

/// Between the logits of (q, k) and of (moved_q, moved_k), in float64; shapes as above.
ShiftChange shift_change(const at::Tensor& q, const at::Tensor& k, const at::Tensor& moved_q, const at::Tensor& moved_k);

struct AttentionMeasures {
  std::vector<std::vector<HeadAttention>> heads;  ///< [layer][head], means over the windows
  std::vector<ShiftChange> shifts;                ///< per shift, the largest of all layers and heads; of the first window
};

/// windows [N, T] int64 on the model's device; shifts in tokens. The model runs as it is, but q and k are made in float32 from
/// what each layer's attention is given, whatever the compute dtype. They come from float32 tables (RopeTableDtype::bfloat16
/// excepted), whose angles at position p are off by up to p * 6e-8: that, too, is part of a shift's change.
AttentionMeasures measure_attention(Gpt& model, const at::Tensor& windows, const std::vector<int64_t>& shifts);

}  // namespace pgolf
