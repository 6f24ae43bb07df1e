#include "pgolf/optim/optimizers.h"

#include <torch/types.h>

#include <map>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/config/parameters.h"
#include "pgolf/ops/linear.h"
#include "pgolf/ops/muon.h"

namespace pgolf {

namespace {

/// On the parameters' device if that is a CUDA device; else undefined.
at::Tensor device_scalar(const StateDict& parameters) {
  if (parameters.empty() || !parameters[0].second.is_cuda()) return {};
  return at::zeros({}, parameters[0].second.options().dtype(at::kFloat).requires_grad(false));
}

std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) {
    if (parameter.grad().defined() && parameter.grad().numel() > 0) gradients.push_back(parameter.grad());
  }
  return gradients;
}

}  // namespace

ParameterGroups split_parameters(Gpt& model, const std::vector<std::string>& control_patterns) {
  ParameterGroups groups;
  StateDict others;
  const auto made = model->named_parameters();
  for (const Parameter& parameter : model_parameters(model->config())) {
    if (parameter.numel() == 0) continue;
    // Upstream sorts parameters below "blocks." by shape and name and assigns the others explicitly.
    const auto group_of = [&]() -> StateDict& {
      if (parameter.role == ParameterRole::embedding) return groups.tok_emb;
      if (parameter.role == ParameterRole::head) return groups.lm_head;
      if (!parameter.in_block()) return others;
      const std::string name = parameter.name.substr(std::string_view(parameter_name::blocks).size());
      return parameter.shape.size() == 2 && !is_control_tensor(name, control_patterns) ? groups.matrix : groups.scalar;
    };
    group_of().push_back({parameter.name, made[parameter.name]});
  }
  groups.scalar.insert(groups.scalar.end(), others.begin(), others.end());
  check_groups(model, groups);
  return groups;
}

void check_groups(Gpt& model, const ParameterGroups& groups) {
  std::map<std::string, int> times;
  for (const auto* group : {&groups.tok_emb, &groups.lm_head, &groups.matrix, &groups.scalar}) {
    for (const auto& entry : *group) ++times[entry.first];
  }
  for (const auto& item : model->named_parameters()) {
    if (item.value().numel() == 0 || times[item.key()] == 1) continue;
    throw Error(ExitCode::internal, format("parameter %s is in %s optimizer group", item.key().c_str(),
                                           times[item.key()] == 0 ? "no" : "more than one"));
  }
}

Adam::Adam(StateDict parameters, double base_lr, const OptimConfig& config, double weight_decay)
    : parameters_(std::move(parameters)),
      base_lr_(base_lr),
      lr_(base_lr),
      beta1_(config.beta1),
      beta2_(config.beta2),
      eps_(config.adam_eps),
      weight_decay_(weight_decay),
      device_lr_(device_scalar(parameters_)) {
  for (const auto& [name, tensor] : parameters_) {
    exp_avg_.push_back(at::zeros_like(tensor));
    exp_avg_sq_.push_back(at::zeros_like(tensor));
    steps_.push_back(at::zeros({}, tensor.options().dtype(at::kFloat)));
  }
}

void Adam::schedule(double lr_scale) {
  lr_ = base_lr_ * lr_scale;
  if (device_lr_.defined()) device_lr_.fill_(lr_);
}

void Adam::step() {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> values, gradients, exp_avg, exp_avg_sq, steps;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& gradient = parameters_[i].second.grad();
    if (!gradient.defined()) continue;
    values.push_back(parameters_[i].second);
    gradients.push_back(gradient);
    exp_avg.push_back(exp_avg_[i]);
    exp_avg_sq.push_back(exp_avg_sq_[i]);
    steps.push_back(steps_[i]);
  }
  if (values.empty()) return;
  at::_foreach_add_(steps, 1);
  const auto update = [&](const auto& lr) {
    // Without decay both are the same arithmetic; upstream calls the first.
    if (weight_decay_ == 0) {
      at::_fused_adam_(values, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sqs=*/{}, steps, lr, beta1_, beta2_,
                       /*weight_decay=*/0.0, eps_, /*amsgrad=*/false, /*maximize=*/false);
    } else {
      at::_fused_adamw_(values, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sqs=*/{}, steps, lr, beta1_, beta2_, weight_decay_,
                        eps_, /*amsgrad=*/false, /*maximize=*/false);
    }
  };
  device_lr_.defined() ? update(device_lr_) : update(lr_);
  for (const auto& value : values) ops::mark_changed(value);
}

StateDict Adam::state() const {
  StateDict out;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    out.push_back({"adam.exp_avg." + parameters_[i].first, exp_avg_[i]});
    out.push_back({"adam.exp_avg_sq." + parameters_[i].first, exp_avg_sq_[i]});
    out.push_back({"adam.step." + parameters_[i].first, steps_[i]});
  }
  return out;
}

Muon::Muon(StateDict parameters, const OptimConfig& config, at::ScalarType update_dtype, const Process& process, OpsPath path)
    : parameters_(std::move(parameters)),
      base_lr_(config.matrix_lr),
      step_{.momentum = config.muon_momentum,
            .lr = base_lr_,
            .backend_steps = config.muon_backend_steps,
            .dtype = update_dtype,
            .weight_decay = config.muon_wd,
            .normalize_rows = config.muon_row_normalize,
            .device_momentum = device_scalar(parameters_),
            .device_lr = device_scalar(parameters_),
            .device_keep = device_scalar(parameters_)},
      process_(process),
      path_(path) {
  for (const auto& [name, tensor] : parameters_) momentum_buffers_.push_back(at::zeros_like(tensor));
}

void Muon::schedule(double lr_scale, double momentum) {
  step_.momentum = momentum;
  step_.lr = base_lr_ * lr_scale;
  if (step_.device_lr.defined()) {
    step_.device_momentum.fill_(step_.momentum);
    step_.device_lr.fill_(step_.lr);
    step_.device_keep.fill_(step_.keep());
  }
}

void Muon::step() {
  std::vector<ops::MuonMatrix> matrices;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    // With several processes each one updates its share; share_updates() sends it to the others.
    if (static_cast<int>(i % process_.world_size()) != process_.rank()) continue;
    const auto& parameter = parameters_[i].second;
    if (parameter.grad().defined()) {
      matrices.push_back({parameter, parameter.grad(), momentum_buffers_[i]});
    } else if (step_.weight_decay != 0) {
      at::NoGradGuard no_grad;
      step_.device_keep.defined() ? parameter.mul_(step_.device_keep) : parameter.mul_(step_.keep());
    }
  }
  ops::muon_update_(matrices, step_, path_);
}

Group::Wait Muon::share_updates(Group& group) {
  if (!group.connected()) return [] {};
  std::vector<at::Tensor> matrices;
  for (const auto& [name, tensor] : parameters_) matrices.push_back(tensor);
  auto wait = group.start_broadcast(matrices, [&](size_t i) { return static_cast<int>(i) % group.world_size(); });
  return [wait = std::move(wait), matrices = std::move(matrices)] {
    wait();
    for (const auto& matrix : matrices) ops::mark_changed(matrix);
  };
}

void Muon::share_state(Group& group) {
  group.broadcast_(momentum_buffers_, [&](size_t i) { return static_cast<int>(i) % group.world_size(); });
}

StateDict Muon::state() const {
  StateDict out;
  for (size_t i = 0; i < parameters_.size(); ++i)
    out.push_back({"muon.momentum_buffer." + parameters_[i].first, momentum_buffers_[i]});
  return out;
}

at::ScalarType muon_dtype(DtypeChoice choice, at::ScalarType compute) {
  switch (choice) {
    case DtypeChoice::bfloat16:
      return at::kBFloat16;
    case DtypeChoice::float32:
      return at::kFloat;
    case DtypeChoice::automatic:
      break;
  }
  return compute;
}

Optimizers::Optimizers(Gpt& model, const OptimConfig& config, at::ScalarType compute, const Process& process, OpsPath path)
    : Optimizers(model, split_parameters(model, config.control_patterns), config, compute, process, path) {}

Optimizers::Optimizers(Gpt& model, ParameterGroups groups, const OptimConfig& config, at::ScalarType compute,
                       const Process& process, OpsPath path)
    : model_(model),
      token_lr_(model->config().tie_embeddings ? config.tied_embed_lr : config.embed_lr),
      tok_emb_(std::move(groups.tok_emb), token_lr_, config,
               config.optimizer == OptimizerChoice::muon ? config.embed_wd : config.weight_decay),
      lm_head_(std::move(groups.lm_head), config.head_lr, config, config.weight_decay),
      muon_matrix_(config.optimizer == OptimizerChoice::muon ? std::move(groups.matrix) : StateDict{}, config,
                   muon_dtype(config.muon_dtype, compute), process, path),
      adam_matrix_(std::move(groups.matrix), config.matrix_lr, config, config.weight_decay),
      scalar_(std::move(groups.scalar), config.scalar_lr, config, config.adam_wd) {}

void Optimizers::schedule(double lr_scale, double momentum) {
  for (auto* adam : {&tok_emb_, &lm_head_, &adam_matrix_, &scalar_}) adam->schedule(lr_scale);
  muon_matrix_.schedule(lr_scale, momentum);
}

void Optimizers::step(Group& group) {
  // First, so that its matrices travel while the others work.
  muon_matrix_.step();
  const auto wait = muon_matrix_.share_updates(group);
  for (auto* adam : {&tok_emb_, &lm_head_, &adam_matrix_, &scalar_}) adam->step();
  wait();
}

void Optimizers::zero_grad() {
  model_->zero_grad(/*set_to_none=*/true);
}

StateDict Optimizers::state() const {
  StateDict out;
  for (auto part : {tok_emb_.state(), lm_head_.state(), muon_matrix_.state(), adam_matrix_.state(), scalar_.state()}) {
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

at::Tensor gradient_norms(const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  // By dtype: on a GPU the norms of mixed ones would be taken one by one.
  std::map<at::ScalarType, std::pair<std::vector<at::Tensor>, std::vector<size_t>>> by_dtype;
  size_t count = 0;
  for (const auto& gradient : gradients_of(parameters)) {
    auto& [gradients, places] = by_dtype[gradient.scalar_type()];
    gradients.push_back(gradient);
    places.push_back(count++);
  }
  std::vector<at::Tensor> norms(count);
  for (const auto& [dtype, group] : by_dtype) {
    const auto found = at::_foreach_norm(group.first, 2);
    for (size_t i = 0; i < found.size(); ++i) norms[group.second[i]] = found[i].to(at::kFloat);
  }
  return at::stack(norms);
}

at::Tensor clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm) {
  const at::NoGradGuard no_grad;
  const auto total = at::linalg_vector_norm(gradient_norms(parameters), 2);
  const auto coefficient = at::clamp((total + 1e-6).reciprocal() * max_norm, std::nullopt, 1.0);
  std::vector<at::Tensor> together;  // those of the coefficient's dtype
  for (auto& gradient : gradients_of(parameters)) {
    if (gradient.scalar_type() == coefficient.scalar_type()) {
      together.push_back(gradient);
    } else {
      gradient.mul_(coefficient);
    }
  }
  if (!together.empty()) at::_foreach_mul_(together, coefficient);
  return total;
}

}  // namespace pgolf
