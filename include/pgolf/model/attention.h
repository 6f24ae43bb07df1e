// Causal self-attention with grouped queries, q/k normalisation, partial rotation and a gain per query head.
#pragma once

#include "pgolf/model/linear.h"
#include "pgolf/model/rotary.h"

namespace pgolf {

class CausalSelfAttentionImpl : public torch::nn::Module {
 public:
  /// layer: from 0, for its rotation.
  CausalSelfAttentionImpl(const ModelConfig& config, int layer, OpsPath path, std::shared_ptr<ops::RopeTableCache> tables);

  at::Tensor forward(const at::Tensor& x);  ///< [B, T, model_dim] -> [B, T, model_dim]

  at::Tensor q_gain;  ///< [num_heads] float32
  CastedLinear c_q{nullptr}, c_k{nullptr}, c_v{nullptr}, proj{nullptr};
  Rotary rotary{nullptr};

 private:
  int64_t num_heads_, num_kv_heads_, head_dim_;
  bool qk_norm_;
  OpsPath path_;
};
TORCH_MODULE(CausalSelfAttention);

}  // namespace pgolf
