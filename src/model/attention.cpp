#include "pgolf/model/attention.h"

#include <torch/types.h>

#include "pgolf/ops/attention.h"
#include "pgolf/ops/exclusive.h"
#include "pgolf/ops/heads.h"

namespace pgolf {

CausalSelfAttentionImpl::CausalSelfAttentionImpl(const ModelConfig& config, int layer, OpsPath path,
                                                 std::shared_ptr<ops::RopeTableCache> tables)
    : num_heads_(config.num_heads),
      num_kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim()),
      qk_norm_(config.qk_norm),
      exclusive_(config.exclusive(layer)),
      key_offset_(config.key_offset),
      window_(config.window(layer)),
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

CausalSelfAttentionImpl::Heads CausalSelfAttentionImpl::heads(const at::Tensor& x, const ops::RopeTable* table,
                                                              const at::Tensor& more_values) {
  const auto [q, k, v] = ops::qkv_heads(x, c_q->prepared(), c_k->prepared(), c_v->prepared(), q_gain, table, path_, qk_norm_);
  if (!more_values.defined()) return {q, k, v};
  return {q, k, v + more_values.unflatten(-1, {num_kv_heads_, head_dim_}).transpose(1, 2)};
}

at::Tensor CausalSelfAttentionImpl::offset_keys(const at::Tensor& k) const {
  return key_offset_ ? ops::offset_keys(k, rotary->spec()) : k;
}

at::Tensor CausalSelfAttentionImpl::attend(const at::Tensor& x, const BlockPass& pass) {
  const auto attended = [&](const Heads& own, const at::Tensor& keys, const at::Tensor& values) {
    const auto y = ops::causal_attention(own.q, offset_keys(keys), values, path_, window_).transpose(1, 2);
    return exclusive_ ? ops::exclude_value(y, own.v.transpose(1, 2), path_) : y;
  };
  KvCache* const cache = pass.cache;
  if (cache == nullptr) {
    const auto own = heads(x, rotary->table(x.size(1), x.device()).get(), pass.values);
    return attended(own, own.k, own.v);
  }
  const auto table = rotary->table(cache->capacity(), x.device());
  const auto here = table != nullptr ? table->positions(cache->length(), x.size(1)) : ops::RopeTable();
  const auto own = heads(x, table != nullptr ? &here : nullptr, pass.values);
  const auto all = cache->append(pass.index, own.k, own.v);
  return attended(own, all.keys, all.values);
}

at::Tensor CausalSelfAttentionImpl::forward(const at::Tensor& x, const BlockPass& pass) {
  if (observer) observer(x);
  const int64_t batch = x.size(0), time = x.size(1);
  return proj(attend(x, pass).reshape({batch, time, num_heads_ * head_dim_}), path_);
}

}  // namespace pgolf
