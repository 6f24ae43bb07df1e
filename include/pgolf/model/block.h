// One transformer block: mix with the first input, attention branch, MLP branch, each with a learned scale.
#pragma once

#include "pgolf/model/attention.h"

namespace pgolf {

/// The learned part of a norm; exists only with ModelConfig::norm_weights.
class NormWeightImpl : public torch::nn::Module {
 public:
  explicit NormWeightImpl(int64_t dim);
  at::Tensor forward(const at::Tensor& normed);  ///< [..., dim] -> [..., dim]

  at::Tensor weight;  ///< [dim] float32, ones
};
TORCH_MODULE(NormWeight);

/// proj(activation(fc(x))), hidden width ModelConfig::mlp_hidden(), no bias. See MlpKind for the activations; swiglu has a
/// third matrix.
class MlpImpl : public torch::nn::Module {
 public:
  MlpImpl(const ModelConfig& config, OpsPath path);
  at::Tensor forward(const at::Tensor& x);  ///< [B, T, C] -> [B, T, C]

  CastedLinear fc{nullptr}, gate{nullptr}, proj{nullptr};  ///< gate: null unless swiglu

 private:
  MlpKind kind_;
  double slope_;
  OpsPath path_;
};
TORCH_MODULE(Mlp);

/// x = mix[0] x + mix[1] x0;  x += attn_scale * attn(norm(x));  x += mlp_scale * mlp(norm(x)). Without resid_mix x is not
/// mixed. A parallel block (GPT-J) feeds one norm(x) to both branches. norm: times ModelConfig::norm_factor().
class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const ModelConfig& config, int layer, OpsPath path, std::shared_ptr<ops::RopeTableCache> tables);

  /// x: residual stream, x0: normalized embedding, both [B, T, C] -> [B, T, C].
  at::Tensor forward(const at::Tensor& x, const at::Tensor& x0, const BlockPass& pass = {});

  at::Tensor attn_scale, mlp_scale;                  ///< [C] float32, ones
  at::Tensor resid_mix;                              ///< [2, C] float32, ones and zeros; undefined without resid_mix
  NormWeight attn_norm{nullptr}, mlp_norm{nullptr};  ///< null without norm_weights; parallel blocks have only the first
  CausalSelfAttention attn{nullptr};
  Mlp mlp{nullptr};

 private:
  bool parallel_;
  double norm_factor_;
  OpsPath path_;
};
TORCH_MODULE(Block);

}  // namespace pgolf
