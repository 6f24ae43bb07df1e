#include "pgolf/model/block.h"

#include <torch/types.h>

#include "pgolf/ops/mlp.h"
#include "pgolf/ops/residual.h"

namespace pgolf {

MlpImpl::MlpImpl(const ModelConfig& config, OpsPath path) : path_(path) {
  const int64_t hidden = int64_t{config.mlp_mult} * config.model_dim;
  fc = register_module("fc", CastedLinear(config.model_dim, hidden));
  proj = register_module("proj", CastedLinear(hidden, config.model_dim, /*zero_init=*/true));
}

at::Tensor MlpImpl::forward(const at::Tensor& x) {
  return ops::relu_squared_mlp(x, fc->prepared(), proj->prepared(), path_);
}

BlockImpl::BlockImpl(const ModelConfig& config, int layer, OpsPath path, std::shared_ptr<ops::RopeTableCache> tables)
    : parallel_(config.parallel_block), path_(path) {
  const int64_t dim = config.model_dim;
  attn_scale = register_parameter("attn_scale", torch::ones({dim}));
  mlp_scale = register_parameter("mlp_scale", torch::ones({dim}));
  resid_mix = register_parameter("resid_mix", torch::stack({torch::ones({dim}), torch::zeros({dim})}));
  attn = register_module("attn", CausalSelfAttention(config, layer, path, std::move(tables)));
  mlp = register_module("mlp", Mlp(config, path));
}

at::Tensor BlockImpl::forward(const at::Tensor& x_in, const at::Tensor& x0) {
  const auto mixed = ops::residual_mix_norm(x_in, x0, resid_mix, path_);
  if (parallel_) {
    const auto attended = ops::scaled_add(mixed.x, attn_scale, attn(mixed.normed), path_);
    return ops::scaled_add(attended, mlp_scale, mlp(mixed.normed), path_);
  }
  const auto attended = ops::scaled_add_norm(mixed.x, attn_scale, attn(mixed.normed), path_);
  return ops::scaled_add(attended.x, mlp_scale, mlp(attended.normed), path_);
}

}  // namespace pgolf
