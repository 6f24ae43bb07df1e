// Adam and Muon with upstream's parameter groups, and their state as named tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "pgolf/config/run_config.h"
#include "pgolf/dist/group.h"
#include "pgolf/model/gpt.h"
#include "pgolf/model/state_dict.h"
#include "pgolf/ops/muon.h"

namespace pgolf {

/// Which optimizer owns which parameter, by upstream's rules: names first, shapes second.
/// The tensors are the model's own parameters, not copies.
struct ParameterGroups {
  StateDict tok_emb;  ///< Adam, EMBED_LR or TIED_EMBED_LR: the token embedding, and tables that are added to it or to values
  StateDict lm_head;  ///< Adam, HEAD_LR; empty when tied
  StateDict matrix;   ///< Muon or AdamW, MATRIX_LR: 2-D parameters of the blocks except control tensors
  StateDict scalar;   ///< Adam, SCALAR_LR: the blocks' other parameters, then skip_weights, then the final norm's
};
/// Contains every parameter exactly once (check_groups).
ParameterGroups split_parameters(Gpt& model, const std::vector<std::string>& control_patterns);

/// Error(internal) that names a parameter of the model in no group or in several. Empty parameters may be in none.
void check_groups(Gpt& model, const ParameterGroups& groups);

/// Adam (arXiv 1412.6980) as torch.optim.Adam(fused=True), with weight decay as AdamW(fused=True): arithmetic in float32, one
/// rounding per step for bfloat16 parameters and moments.
class Adam {
 public:
  /// weight_decay: decoupled (arXiv 1711.05101), each step subtracts lr * weight_decay * parameter.
  Adam(StateDict parameters, double base_lr, const OptimConfig& config, double weight_decay = 0);
  void schedule(double lr_scale);  ///< for the following steps
  void step();

  /// exp_avg, exp_avg_sq and step per parameter, under "adam.KIND.NAME". Tensors are the live state.
  StateDict state() const;

 private:
  StateDict parameters_;
  std::vector<at::Tensor> exp_avg_, exp_avg_sq_, steps_;
  double base_lr_, lr_, beta1_, beta2_, eps_, weight_decay_;
  at::Tensor device_lr_;  ///< on CUDA, see ops::MuonStep
};

/// Muon: Nesterov momentum, then an orthogonalized update scaled by sqrt(max(1, rows/cols)); with MUON_WD each step first
/// subtracts lr * MUON_WD * matrix, also from a matrix without gradient.
class Muon {
 public:
  /// update_dtype: of Newton-Schulz and of the update before it is added (bfloat16 in upstream).
  Muon(StateDict parameters, const OptimConfig& config, at::ScalarType update_dtype, const Process& process, OpsPath path);
  void schedule(double lr_scale, double momentum);  ///< for the following steps
  /// Updates this rank's share of the matrices: those whose index is its rank modulo the world size.
  void step();
  /// Every matrix becomes its owner's.
  [[nodiscard]] Group::Wait share_updates(Group& group);
  /// Every momentum buffer becomes its owner's; each rank keeps up only its own.
  void share_state(Group& group);

  /// Momentum buffers under "muon.momentum_buffer.NAME". Tensors are the live state.
  StateDict state() const;

 private:
  StateDict parameters_;
  std::vector<at::Tensor> momentum_buffers_;
  double base_lr_;
  ops::MuonStep step_;
  Process process_;
  OpsPath path_;
};

/// The dtype of Muon's arithmetic: the choice, or the compute dtype if automatic.
at::ScalarType muon_dtype(DtypeChoice choice, at::ScalarType compute);

/// All optimizers of a run. With OPTIMIZER=adamw Muon has no matrices.
class Optimizers {
 public:
  Optimizers(Gpt& model, const OptimConfig& config, at::ScalarType compute, const Process& process, OpsPath path);

  /// For the following steps: lr_scale multiplies every base learning rate.
  void schedule(double lr_scale, double momentum);
  /// Afterwards all ranks have the same weights. With parameters on a CUDA device, reads nothing that schedule() changes from the
  /// host: can be captured in a CUDA graph, unless the group's collectives cannot (Group::on_device).
  void step(Group& group);
  /// Before state() is read in a job of several processes.
  void share_state(Group& group) { muon_matrix_.share_state(group); }
  void zero_grad();
  StateDict state() const;

  double token_lr() const { return token_lr_; }

 private:
  Optimizers(Gpt& model, ParameterGroups groups, const OptimConfig& config, at::ScalarType compute, const Process& process,
             OpsPath path);

  Gpt model_;
  double token_lr_;
  Adam tok_emb_, lm_head_;
  Muon muon_matrix_;
  Adam adam_matrix_;
  Adam scalar_;
};

/// 2-norms of the gradients that exist and are not empty, in the order of the parameters: float32 [n]. At least one.
at::Tensor gradient_norms(const std::vector<at::Tensor>& parameters);

/// Scales all gradients so that their global 2-norm is at most max_norm (torch.nn.utils.clip_grad_norm_,
/// 1e-6 in the denominator). Returns the norm before clipping, a scalar tensor.
at::Tensor clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm);

}  // namespace pgolf
