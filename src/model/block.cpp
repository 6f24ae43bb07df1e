#include "pgolf/model/block.h"

#include <torch/types.h>

#include "pgolf/ops/mlp.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"

namespace pgolf {

NormWeightImpl::NormWeightImpl(int64_t dim) {
  weight = register_parameter("weight", torch::ones({dim}));
}

at::Tensor NormWeightImpl::forward(const at::Tensor& normed) {
  return ops::norm_weight(normed, weight);
}

MlpImpl::MlpImpl(const ModelConfig& config, OpsPath path)
    : kind_(config.mlp_kind), slope_(leaky(kind_) ? config.mlp_leaky_slope : 0), path_(path) {
  const int64_t hidden = config.mlp_hidden();
  fc = register_module("fc", CastedLinear(config.model_dim, hidden));
  if (kind_ == MlpKind::swiglu) gate = register_module("gate", CastedLinear(config.model_dim, hidden));
  proj = register_module("proj", CastedLinear(hidden, config.model_dim));
}

at::Tensor MlpImpl::forward(const at::Tensor& x) {
  if (squared(kind_) && !proj->observer) return ops::leaky_squared_mlp(x, fc->prepared(), proj->prepared(), slope_, path_);
  const auto up = fc(x, path_);
  return proj(gate ? ops::swiglu(gate(x, path_), up, path_) : ops::mlp_activation(up, kind_, slope_, path_), path_);
}

BlockImpl::BlockImpl(const ModelConfig& config, int layer, OpsPath path, std::shared_ptr<ops::RopeTableCache> tables)
    : parallel_(config.parallel(layer)), norm_factor_(config.norm_factor(layer)), path_(path) {
  const int64_t dim = config.model_dim;
  attn_scale = register_parameter("attn_scale", torch::ones({dim}));
  mlp_scale = register_parameter("mlp_scale", torch::ones({dim}));
  if (config.resid_mix) resid_mix = register_parameter("resid_mix", torch::stack({torch::ones({dim}), torch::zeros({dim})}));
  if (config.norm_weights) {
    attn_norm = register_module("attn_norm", NormWeight(dim));
    if (!parallel_) mlp_norm = register_module("mlp_norm", NormWeight(dim));
  }
  attn = register_module("attn", CausalSelfAttention(config, layer, path, std::move(tables)));
  mlp = register_module("mlp", Mlp(config, path));
}

at::Tensor BlockImpl::forward(const at::Tensor& x_in, const at::Tensor& x0, const BlockPass& pass) {
  const auto weighted = [](NormWeight& norm, const at::Tensor& normed) { return norm ? norm(normed) : normed; };
  const auto start = resid_mix.defined() ? ops::residual_mix_norm(x_in, x0, resid_mix, path_, norm_factor_)
                                         : ops::Normed{x_in, ops::rms_norm(x_in, path_, norm_factor_)};
  const auto normed = weighted(attn_norm, start.normed);
  if (parallel_) {
    const auto attended = ops::scaled_add(start.x, attn_scale, attn(normed, pass), path_);
    return ops::scaled_add(attended, mlp_scale, mlp(normed), path_);
  }
  const auto attended = ops::scaled_add_norm(start.x, attn_scale, attn(normed, pass), path_, norm_factor_);
  return ops::scaled_add(attended.x, mlp_scale, mlp(weighted(mlp_norm, attended.normed)), path_);
}

}  // namespace pgolf
