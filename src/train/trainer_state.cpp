// What a training checkpoint holds, saved, restored and shared with the other ranks.
#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include "pgolf/artifact/layout.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/ops/linear.h"
#include "pgolf/train/trainer.h"
#include "provenance.h"

namespace pgolf {
namespace fs = std::filesystem;

namespace {

constexpr const char* generator_name = "generator";

}  // namespace

StateDict Trainer::training_tensors() const {
  StateDict tensors;
  for (const auto& item : model_->named_parameters())
    tensors.emplace_back(layout::checkpoint_model + item.key(), item.value().detach());
  for (auto& entry : optimizers_.state()) tensors.push_back(std::move(entry));
  for (auto& entry : average_.state()) tensors.push_back(std::move(entry));
  return tensors;
}

void Trainer::save(const fs::path& checkpoints) {
  auto tensors = training_tensors();
  tensors.emplace_back(generator_name, at::detail::getDefaultCPUGenerator().get_state());
  state_.loader_file = micro_batches_.cursor().file_index;
  state_.loader_position = micro_batches_.cursor().position;
  state_.micro_steps = group_.process().micro_steps();
  try {
    state_.data = data_identity(config_.data, state_.loader_file);
  } catch (const Error&) {
    state_.data.clear();  // shards that are gone are no reason to lose a checkpoint
  }
  save_checkpoint(checkpoints, state_, tensors);
  prune_checkpoints(checkpoints, config_.output.keep_last);
}

void Trainer::save_if_possible(const RunFolder& folder) {
  optimizers_.share_state(group_);
  if (!group_.is_master()) return;
  try {
    save(folder.checkpoints());
  } catch (const Error& error) {
    if (error.code() != ExitCode::io) throw;
    log::warn(format("no checkpoint of step %lld: %s; training goes on, the next is due after %d more",
                     static_cast<long long>(state_.step), error.what(), config_.output.save_every));
  }
}

fs::path Trainer::save_at_last(const RunFolder& folder, FinalFiles& files) {
  optimizers_.share_state(group_);
  if (!group_.is_master()) return folder.checkpoints();
  files.save_rest(records(folder));
  return files.save(folder.checkpoints(), [this](const fs::path& checkpoints) { save(checkpoints); });
}

void require_same_settings(const Checkpoint& checkpoint, const std::vector<ResolvedOption>& resolved) {
  const auto differences = resume_differences(checkpoint.state.config, resolved);
  if (differences.empty()) return;
  std::string list;
  for (const auto& difference : differences) list += (list.empty() ? "" : "; ") + difference;
  throw Error(ExitCode::usage, format("cannot resume from %s with different settings: %s", checkpoint.path.c_str(), list.c_str()),
              "pass --config RUN_FOLDER/config.env of that run, or start a new run");
}

void Trainer::require_same_windows(const Checkpoint& checkpoint) const {
  const auto& data = config_.data;
  const int64_t per_step = data.train_batch_tokens / data.train_seq_len / group_.world_size();
  const int64_t taken = checkpoint.state.loader_position, own = checkpoint.state.step * per_step;
  if (taken == own) return;
  throw Error(ExitCode::usage,
              format("cannot resume from %s: each of its processes has taken %lld windows, this job's would have taken %lld",
                     checkpoint.path.c_str(), static_cast<long long>(taken), static_cast<long long>(own)),
              "with LOADER=shuffled WORLD_SIZE must stay the same");
}

void Trainer::restore(const Checkpoint& checkpoint) {
  require_same_settings(checkpoint, resolved_);
  if (const int stored = checkpoint.state.micro_steps, own = group_.process().micro_steps(); stored != own) {
    throw Error(
        ExitCode::usage,
        format("cannot resume from %s: its steps have %d micro-steps, this job's have %d", checkpoint.path.c_str(), stored, own),
        "GRAD_ACCUM_STEPS times WORLD_SIZE must stay the same");
  }
  if (const auto& stored = checkpoint.state.model; stored.count(layout::tokenizer) != 0 && !config_.data.allow_other_data)
    tokenizer_.require_fingerprint(stored.at(layout::tokenizer), checkpoint.path.string());
  if (config_.data.loader == LoaderChoice::shuffled) require_same_windows(checkpoint);
  check_provenance(checkpoint.state, checkpoint.path.string(), config_, runtime_);
  if (const int passes = checkpoint.state.extra_passes; passes < 0 || passes > config_.model.num_loops) {
    throw Error(ExitCode::bad_input, format("%s: its last step made %d extra passes, but NUM_LOOPS=%d", checkpoint.path.c_str(),
                                            passes, config_.model.num_loops));
  }
  torch::NoGradGuard no_grad;
  auto live = training_tensors();
  auto generator = at::detail::getDefaultCPUGenerator();
  live.emplace_back(generator_name, generator.get_state());
  if (live.size() != checkpoint.tensors.size())
    throw Error(ExitCode::bad_input, checkpoint.path.string() + " has a different number of tensors than this run");
  for (size_t i = 0; i < live.size(); ++i) {
    const auto& [name, tensor] = checkpoint.tensors[i];
    if (name != live[i].first || tensor.sizes() != live[i].second.sizes() ||
        tensor.scalar_type() != live[i].second.scalar_type()) {
      throw Error(ExitCode::bad_input, format("%s: %s does not match the run's tensor %s", checkpoint.path.c_str(), name.c_str(),
                                              live[i].first.c_str()));
    }
    if (name == generator_name) {
      generator.set_state(tensor);
    } else {
      live[i].second.copy_(tensor);
    }
  }
  const auto config = std::move(state_.config);
  state_ = checkpoint.state;
  state_.config = config;
  state_.arithmetic = arithmetic_of(runtime_);
  follow_rotation();
  state_.model = metadata_;  // that of an older checkpoint lacks the tokenizer
  set_extra_passes(state_.extra_passes);
  seek_data();
  restored_ = true;
}

void Trainer::follow_rotation() {
  const auto stored = state_.model.find("ROPE_DIMS");
  const bool dropped = stored != state_.model.end() && stored->second == "none";
  if (config_.schedule.rope_drop_at >= 0 && dropped && !config_.model.widest_rope().none()) drop_rotation();
}

void Trainer::seek_data() {
  try {
    micro_batches_.seek({state_.loader_file, state_.loader_position});
  } catch (const Error& error) {
    if (!config_.data.allow_other_data) throw;
    log::warn(std::string(error.what()) + "; training goes on at the start of the shards");
    state_.loader_file = state_.loader_position = 0;
    micro_batches_.seek({});
  }
}

void Trainer::share_state() {
  if (!group_.connected()) return;
  const auto config = std::move(state_.config);
  state_ = parse_training_state(group_.broadcast(training_state_text(state_)), "rank 0's state");
  state_.config = config;
  follow_rotation();
  set_extra_passes(state_.extra_passes);
  restored_ = !group_.broadcast(restored_ ? "restored" : "").empty();
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : training_tensors()) tensors.push_back(tensor);
  group_.broadcast_(tensors);
  for (const auto& parameter : model_->parameters()) ops::mark_changed(parameter);
  if (restored_) micro_batches_.seek({state_.loader_file, state_.loader_position});
}

void Trainer::share_weights() {
  const auto weights = model_->parameters();
  group_.broadcast_(weights);
  for (const auto& weight : weights) ops::mark_changed(weight);
}

}  // namespace pgolf
