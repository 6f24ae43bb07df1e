// Causal self-attention with grouped queries, q/k normalization, partial rotation, a gain per query head, and in some layers
// exclusive of the own value (ops/exclusive.h).
#pragma once

#include <functional>

#include "pgolf/config/run_config.h"
#include "pgolf/model/kv_cache.h"
#include "pgolf/model/linear.h"
#include "pgolf/model/rotary.h"

namespace pgolf {

/// What a pass through a block needs besides its input.
struct BlockPass {
  KvCache* cache = nullptr;  ///< if given, x continues the cached positions (the caller calls KvCache::advance())
  int64_t index = 0;         ///< among the passes through all blocks, which have cache entries of their own
  at::Tensor values;         ///< [B, T, num_kv_heads * head_dim], added to attention's values; undefined: nothing
};

class CausalSelfAttentionImpl : public torch::nn::Module {
 public:
  /// layer: index from 0; selects its rotation.
  CausalSelfAttentionImpl(const ModelConfig& config, int layer, OpsPath path, std::shared_ptr<ops::RopeTableCache> tables);

  /// [B, T, model_dim] -> [B, T, model_dim]. With a cache, x also attends to the cached positions, and its keys and values are
  /// appended.
  at::Tensor forward(const at::Tensor& x, const BlockPass& pass = {});

  int64_t window() const { return window_; }

  /// Operands of scaled dot-product attention: q [B, num_heads, T, head_dim], k and v [B, num_kv_heads, T, head_dim]; q and k
  /// normalized and rotated, q multiplied by its gain.
  struct Heads {
    at::Tensor q, k, v;
  };
  /// With KEY_OFFSET attention sees offset_keys(k) instead of k.
  /// table: of the rotary's spec, for x's T positions starting anywhere; nullptr if nothing rotates. more_values:
  /// BlockPass::values.
  Heads heads(const at::Tensor& x, const ops::RopeTable* table, const at::Tensor& more_values = {});

  /// ops::offset_keys with KEY_OFFSET, of keys from position 0 on; else k itself.
  at::Tensor offset_keys(const at::Tensor& k) const;

  /// Called with forward()'s input, for measurements; must not change it.
  std::function<void(const at::Tensor& x)> observer;

  at::Tensor q_gain;  ///< [num_heads] float32
  CastedLinear c_q{nullptr}, c_k{nullptr}, c_v{nullptr}, proj{nullptr};
  Rotary rotary{nullptr};

 private:
  at::Tensor attend(const at::Tensor& x, const BlockPass& pass);  ///< [B, T, model_dim] -> [B, T, Hq, D]

  int64_t num_heads_, num_kv_heads_, head_dim_;
  bool qk_norm_, exclusive_, key_offset_;
  int64_t window_;  ///< 0 = all positions
  OpsPath path_;
};
TORCH_MODULE(CausalSelfAttention);

}  // namespace pgolf
