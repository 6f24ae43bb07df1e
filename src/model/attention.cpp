#include "pgolf/model/attention.h"

#include <torch/types.h>

#include "pgolf/ops/attention.h"
#include "pgolf/ops/heads.h"

namespace pgolf {

CausalSelfAttentionImpl::CausalSelfAttentionImpl(const ModelConfig& config, int layer, OpsPath path,
                                                 std::shared_ptr<ops::RopeTableCache> tables)
    : layer_(layer),
      num_heads_(config.num_heads),
      num_kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim()),
      qk_norm_(config.qk_norm),
      path_(path) {
  const int64_t dim = config.model_dim;
  const int64_t kv_dim = num_kv_heads_ * head_dim_;
  q_gain = register_parameter("q_gain", torch::full({num_heads_}, config.qk_gain_init, torch::kFloat));
  // One statement each: the order in which the weights are drawn is part of the contract.
  c_q = register_module("c_q", CastedLinear(dim, dim));
  c_k = register_module("c_k", CastedLinear(dim, kv_dim));
  c_v = register_module("c_v", CastedLinear(dim, kv_dim));
  proj = register_module("proj", CastedLinear(dim, dim));
  rotary = register_module("rotary", Rotary(config.rope_of(layer), std::move(tables)));
}

CausalSelfAttentionImpl::Heads CausalSelfAttentionImpl::heads(const at::Tensor& x, const ops::RopeTable* table) {
  const auto [q, k, v] = ops::qkv_heads(x, c_q->prepared(), c_k->prepared(), c_v->prepared(), q_gain, table, path_, qk_norm_);
  return {q, k, v};
}

at::Tensor CausalSelfAttentionImpl::attend(const at::Tensor& x, KvCache* cache) {
  if (cache == nullptr) {
    const auto [q, k, v] = heads(x, rotary->table(x.size(1), x.device()).get());
    return ops::causal_attention(q, k, v, path_);
  }
  const auto table = rotary->table(cache->capacity(), x.device());
  const auto here = table != nullptr ? table->positions(cache->length(), x.size(1)) : ops::RopeTable();
  const auto [q, k, v] = heads(x, table != nullptr ? &here : nullptr);
  const auto all = cache->append(layer_, k, v);
  return ops::causal_attention(q, all.keys, all.values, path_);
}

at::Tensor CausalSelfAttentionImpl::forward(const at::Tensor& x, KvCache* cache) {
  if (observer) observer(x);
  const int64_t batch = x.size(0), time = x.size(1);
  const auto y = attend(x, cache);  // [B, Hq, T, D]
  return proj(y.transpose(1, 2).reshape({batch, time, num_heads_ * head_dim_}), path_);
}

}  // namespace pgolf
