// train_gpt: trains a model on token shards and exports a validated, compressed artifact.
#include <torch/version.h>
#include <unistd.h>

#include <cstdlib>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/version.h"
#include "pgolf/config/train_options.h"
#include "pgolf/train/estimate.h"
#include "pgolf/train/export.h"
#include "pgolf/train/min_steps.h"

extern "C" const unsigned char pgolf_source_bundle[];
extern "C" const unsigned long pgolf_source_bundle_size;

using namespace pgolf;

namespace {

namespace fs = std::filesystem;

BytesView source_bundle() {
  return {reinterpret_cast<const std::byte*>(pgolf_source_bundle), pgolf_source_bundle_size};
}

void dry_run(const TrainCommand& command, const Process& process) {
  const auto& config = command.config;
  std::fputs(config_listing(command.resolved).c_str(), stdout);
  const Runtime runtime = start_runtime(config.runtime, process);
  const auto estimate =
      estimate_run(config, runtime.dtype == at::kBFloat16, process.world_size(), plan_micro_batches(config, runtime, process));
  const auto code = static_cast<int64_t>(source_bundle().size());
  std::printf("\nrope_dims: %s\n", describe_rope_dims(config.model.widest_rope()).c_str());
  std::printf("parameters: %s\n", with_commas(estimate.parameters).c_str());
  std::printf("estimated memory: weights %s, gradients and optimizers %s, activations about %s\n",
              human_bytes(static_cast<double>(estimate.weight_bytes)).c_str(),
              human_bytes(static_cast<double>(estimate.optimizer_bytes)).c_str(),
              human_bytes(static_cast<double>(estimate.activation_bytes)).c_str());
  std::printf("estimated artifact: about %s bytes (%s payload %s) + code %s = %s of %s bytes\n",
              with_commas(estimate.artifact.bytes).c_str(), enum_text(config.output.artifact.quantizer),
              with_commas(estimate.artifact.payload_bytes).c_str(), with_commas(code).c_str(),
              with_commas(estimate.artifact.bytes + code).c_str(), with_commas(config.output.budget_bytes).c_str());
  const TokenStream train(config.data.train_files(), config.model.vocab_size);
  const ValidationSet validation(config.data.val_files(), config.data.train_seq_len, config.data.eval_tokens,
                                 config.model.vocab_size);
  std::printf("dataset: %zu training shards with %s tokens; %s validation tokens to score\n", train.files().size(),
              with_commas(train.total_tokens()).c_str(),
              with_commas(static_cast<int64_t>(validation.tokens().size()) - 1).c_str());
  if (config.schedule.min_steps > 0) {
    std::printf(
        "min_steps: the run first times a few steps and uses fewer tokens or blocks if fewer than %d steps fit into %s s\n",
        config.schedule.min_steps, find_option(command.resolved, "MAX_WALLCLOCK_SECONDS").text.c_str());
  }
}

/// The run folder under out_dir with the most recently written checkpoint.
fs::path newest_run(const fs::path& out_dir) {
  fs::path newest;
  fs::file_time_type time;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(out_dir, none)) {
    const auto checkpoints = list_checkpoints(RunFolder{entry.path()}.checkpoints());
    if (checkpoints.empty()) continue;
    const auto written = fs::last_write_time(checkpoints.back());
    if (newest.empty() || written > time) {
      newest = entry.path();
      time = written;
    }
  }
  return newest;
}

struct Start {
  RunFolder folder;
  std::optional<Checkpoint> checkpoint;
  bool continues = false;  // in an existing folder
};

/// The run's folder and the checkpoint it resumes from. Creates nothing.
Start find_start(const std::string& resume, RunConfig& config) {
  const fs::path out_dir = config.output.out_dir;
  const RunFolder named{out_dir / config.output.run_id};
  if (resume.empty()) return {named, std::nullopt};
  if (resume == "auto" && config.output.run_id_given) {
    auto checkpoint = load_newest_checkpoint(named.checkpoints());
    if (!checkpoint && fs::exists(named.model())) {
      throw Error(ExitCode::usage, format("the run in %s is finished and has no checkpoint to resume from", named.path.c_str()),
                  "choose another RUN_ID");
    }
    // Without a checkpoint the run never started or was killed before its first one: start over in the same folder.
    return {named, std::move(checkpoint), fs::exists(named.path)};
  }
  const fs::path path = resume == "auto" ? newest_run(out_dir) : fs::path(resume);
  if (path.empty()) {
    throw Error(ExitCode::bad_input, format("no run under %s has a checkpoint to resume from", out_dir.c_str()),
                "leave --resume out to start a run, or name a run folder or checkpoint");
  }
  if (!fs::exists(path)) {
    throw Error(ExitCode::bad_input, format("--resume: %s does not exist", path.c_str()),
                "name a run folder or a file in its checkpoints/");
  }
  const fs::path checkpoints = list_checkpoints(path).empty() ? RunFolder{path}.checkpoints() : path;
  auto checkpoint = fs::is_directory(path) ? load_newest_checkpoint(checkpoints) : load_checkpoint(path);
  if (!checkpoint) {
    throw Error(ExitCode::bad_input, format("%s has no checkpoints", path.c_str()),
                "only runs with SAVE_EVERY and interrupted ones have any; start a new run");
  }
  if (config.output.run_id_given) return {named, std::move(checkpoint)};  // a separate branch
  const fs::path folder = fs::absolute(checkpoint->path).parent_path().parent_path();
  if (fs::absolute(checkpoint->path).parent_path() != RunFolder{folder}.checkpoints()) {
    throw Error(ExitCode::usage, format("%s is not in the checkpoints/ of a run folder", checkpoint->path.c_str()),
                "name the run that goes on from it: --run-id NAME");
  }
  config.output.run_id = folder.filename();
  return {RunFolder{folder}, std::move(checkpoint), true};
}

void make_folder(Start& start, RunConfig& config, const std::vector<ResolvedOption>& resolved) {
  if (start.continues) {
    start.folder.lock();
    start.folder.remove_leftovers();
    if (!start.checkpoint) {
      fs::remove(start.folder.metrics());
      fs::remove(start.folder.log());
    }
    return;
  }
  while (!start.folder.create()) {
    if (config.output.run_id_given) {
      throw Error(ExitCode::usage, format("the run folder %s already exists", start.folder.path.c_str()),
                  "choose another RUN_ID, or resume that run with --resume");
    }
    config.output.run_id = make_run_id(resolved);
    start.folder.path = fs::path(config.output.out_dir) / config.output.run_id;
  }
  start.folder.lock();
}

/// The log has what a terminal or pipe that has gone did not take.
void accept_lost_output(const RunFolder& folder) {
  if (std::ferror(stdout) == 0) return;
  log::warn(format("standard output did not take all lines; they are in %s", folder.log().c_str()));
  std::clearerr(stdout);
}

/// Trains in this job's group. All ranks come here with the same command; rank 0 decides where the run goes.
ExitCode train(TrainCommand& command, const std::function<TrainCommand(const Overrides&)>& resolve, const Runtime& runtime,
               Group& group) {
  RunConfig& config = command.config;
  Start start;
  if (group.is_master()) start = find_start(command.resume, config);
  const std::string fit =
      config.schedule.min_steps > 0 ? apply_min_steps(command, start.checkpoint, resolve, runtime, group) : "";
  if (start.checkpoint) require_same_settings(*start.checkpoint, command.resolved);
  // Errors in data and settings appear here, before the folder is created.
  Trainer trainer(config, command.resolved, runtime, group);
  if (start.checkpoint) trainer.restore(*start.checkpoint);
  if (group.is_master()) {
    FinalFiles::require_usable(config.output.fallback_dir);
    make_folder(start, config, command.resolved);
    try {
      log::open_log_file(start.folder.log());
      write_atomic(start.folder.config(), config_env_text(command.resolved));
    } catch (const Error& error) {
      log::close_log_file();
      std::error_code ignored;
      if (!start.continues) fs::remove_all(start.folder.path, ignored);  // so that the same command can be tried again
      throw Error(error.code(), error.what(), "make room, or choose another OUT_DIR");
    }
  }
  start.folder.path = group.broadcast(start.folder.path.string());
  if (!group.is_master()) {
    fs::create_directories(start.folder.path);  // missing on another host
    log::open_log_file(start.folder.rank_log(group.rank()));
  }
  log::info(start.folder.log().string());
  log::file_only(format("train_gpt %s, LibTorch %s", program_version(), TORCH_VERSION));
  for (const auto& warning : command.warnings) log::file_only("warning: " + warning);
  if (!fit.empty()) log::info(fit);
  trainer.log_setup();
  ExitCode code = trainer.train(start.folder);
  if (code == ExitCode::ok) code = export_model(trainer, start.folder, static_cast<int64_t>(pgolf_source_bundle_size));
  accept_lost_output(start.folder);
  return code;
}

/// What prints something and stops. False: a run is wanted.
bool act(const TrainCommand& command) {
  if (command.help) {
    std::fputs(train_help().c_str(), stdout);
  } else if (command.help_markdown) {
    std::fputs(train_options_markdown().c_str(), stdout);
  } else if (command.version) {
    std::printf("train_gpt %s (LibTorch %s)\n", program_version(), TORCH_VERSION);
  } else if (!command.write_source.empty()) {
    write_atomic(command.write_source, source_bundle());
    std::printf("%s: %lu bytes, xz-compressed tar of the source that counts as code\n", command.write_source.c_str(),
                pgolf_source_bundle_size);
  } else if (command.print_config) {
    std::fputs(config_listing(command.resolved).c_str(), stdout);
  } else {
    return false;
  }
  return true;
}

ExitCode run(int argc, char** argv) {
  const auto resolve = [argc, argv, environment = read_environment(environ)](const Overrides& overrides) {
    return resolve_train_command(argc, argv, environment, overrides);
  };
  Process process = Process::from_environment([](const char* name) -> const char* { return std::getenv(name); });
  log::set_rank(process.rank());
  TrainCommand command;
  try {
    command = resolve({});
    process.divide_step(command.config.dist.grad_accum_steps);
    if (command.config.dist.grad_accum_steps > 0) {
      require_micro_steps(command.config.data, process.micro_steps(), command.resolved);
    }
  } catch (const Error& error) {
    if (process.local_rank() > 0) return error.code();  // once per machine is enough
    throw;
  }
  if (process.is_master()) {
    for (const auto& warning : command.warnings) log::warn(warning);
    if (act(command)) return ExitCode::ok;
    if (command.dry_run) {
      dry_run(command, process);
      return ExitCode::ok;
    }
  } else if (command.stops()) {
    return ExitCode::ok;
  }
  const Runtime runtime = start_runtime(command.config.runtime, process);
  Group group(process, command.config.dist, runtime.device);
  install_stop_signals();  // a signal before there is anything to save just ends the process
  try {
    const ExitCode code = train(command, resolve, runtime, group);
    group.finish();
    return code;
  } catch (const std::exception& e) {
    group.leave(as_error(e));
    throw;
  }
}

}  // namespace

int main(int argc, char** argv) {
  return end_program(run_main([&] { return run(argc, argv); }));
}
