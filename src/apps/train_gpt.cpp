// train_gpt: trains a model on token shards and leaves a measured, compressed artifact.
#include <torch/version.h>
#include <unistd.h>

#include <cstdlib>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/config/train_options.h"
#include "pgolf/train/estimate.h"
#include "pgolf/train/export.h"

extern "C" const unsigned char pgolf_source_bundle[];
extern "C" const unsigned long pgolf_source_bundle_size;

using namespace pgolf;

namespace {

namespace fs = std::filesystem;

BytesView source_bundle() { return {reinterpret_cast<const std::byte*>(pgolf_source_bundle), pgolf_source_bundle_size}; }

void dry_run(const TrainCommand& command, const Process& process) {
  const auto& config = command.config;
  std::fputs(config_listing(command.resolved).c_str(), stdout);
  const Runtime runtime = start_runtime(config.runtime, process.local_rank());
  const auto estimate = estimate_run(config, runtime.dtype == at::kBFloat16, process.world_size(), process.grad_accum_steps());
  const auto code = static_cast<int64_t>(source_bundle().size());
  std::printf("\nrope_dims: %s\n", describe_rope_dims(config.model.rope).c_str());
  std::printf("parameters: %s\n", with_commas(estimate.parameters).c_str());
  std::printf("memory, estimated: weights %s, gradients and optimisers %s, activations of a micro-step about %s\n",
              human_bytes(static_cast<double>(estimate.weight_bytes)).c_str(), human_bytes(static_cast<double>(estimate.optimizer_bytes)).c_str(),
              human_bytes(static_cast<double>(estimate.activation_bytes)).c_str());
  std::printf("artifact, predicted: about %s bytes (int8 payload %s), with %s of code %s of %s\n", with_commas(estimate.artifact_bytes).c_str(),
              with_commas(estimate.int8_payload_bytes).c_str(), with_commas(code).c_str(), with_commas(estimate.artifact_bytes + code).c_str(),
              with_commas(config.output.budget_bytes).c_str());
  const TokenStream train(config.data.train_files(), config.model.vocab_size);
  const ValidationSet validation(config.data.val_files(), config.data.train_seq_len, config.data.eval_tokens, config.model.vocab_size);
  std::printf("dataset: %zu training shards, %s tokens; %s validation tokens scored\n", train.files().size(), with_commas(train.total_tokens()).c_str(),
              with_commas(static_cast<int64_t>(validation.tokens().size()) - 1).c_str());
}

/// The run folder under out_dir whose newest checkpoint is the newest of all.
fs::path newest_run(const fs::path& out_dir) {
  fs::path newest;
  fs::file_time_type time;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(out_dir, none)) {
    const auto checkpoints = list_checkpoints(entry.path() / "checkpoints");
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
};

Start new_run(RunConfig& config, const std::vector<ResolvedOption>& resolved) {
  while (true) {
    RunFolder folder{fs::path(config.output.out_dir) / config.output.run_id};
    if (folder.create()) return {folder, std::nullopt};
    if (config.output.run_id_given) {
      throw Error(ExitCode::usage, format("the run folder %s exists; two runs never share one", folder.path.c_str()),
                  "choose another RUN_ID, or continue that run with --resume");
    }
    config.output.run_id = make_run_id(resolved);
  }
}

Start find_start(const std::string& resume, RunConfig& config, const std::vector<ResolvedOption>& resolved) {
  if (resume.empty()) return new_run(config, resolved);
  const fs::path out_dir = config.output.out_dir;
  if (resume == "auto" && config.output.run_id_given) {
    const RunFolder folder{out_dir / config.output.run_id};
    auto checkpoint = load_newest_checkpoint(folder.checkpoints());
    if (!checkpoint) {
      // Never started, or killed before its first checkpoint: from the beginning, in the same folder.
      if (!folder.create()) {
        fs::remove(folder.metrics());
        fs::remove(folder.log());
      }
    }
    return {folder, std::move(checkpoint)};
  }
  fs::path path = resume == "auto" ? newest_run(out_dir) : fs::path(resume);
  if (path.empty()) throw Error(ExitCode::bad_input, format("no run below %s has a checkpoint to continue", out_dir.c_str()));
  if (!fs::exists(path)) throw Error(ExitCode::bad_input, format("--resume: %s does not exist", path.c_str()));
  std::optional<Checkpoint> checkpoint;
  if (fs::is_directory(path)) {
    checkpoint = load_newest_checkpoint(RunFolder{path}.checkpoints());
    if (!checkpoint) throw Error(ExitCode::bad_input, format("%s has no checkpoints", path.c_str()));
  } else {
    checkpoint = load_checkpoint(path);
  }
  if (config.output.run_id_given) {  // a branch of its own
    auto start = new_run(config, resolved);
    start.checkpoint = std::move(checkpoint);
    return start;
  }
  const fs::path folder = fs::absolute(checkpoint->path).parent_path().parent_path();
  config.output.run_id = folder.filename();
  return {RunFolder{folder}, std::move(checkpoint)};
}

ExitCode run(int argc, char** argv) {
  TrainCommand command = resolve_train_command(argc, argv, read_environment(environ));
  if (command.help) {
    std::fputs(train_help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (command.version) {
    std::printf("train_gpt %s (LibTorch %s)\n", PGOLF_VERSION, TORCH_VERSION);
    return ExitCode::ok;
  }
  if (!command.write_source.empty()) {
    write_atomic(command.write_source, source_bundle());
    std::printf("%s: %lu bytes, an xz-compressed tar of the source that counts as code\n", command.write_source.c_str(), pgolf_source_bundle_size);
    return ExitCode::ok;
  }
  for (const auto& warning : command.warnings) log::warn(warning);
  if (command.print_config) {
    std::fputs(config_listing(command.resolved).c_str(), stdout);
    return ExitCode::ok;
  }
  const Process process = Process::from_environment([](const char* name) -> const char* { return std::getenv(name); });
  if (command.dry_run) {
    dry_run(command, process);
    return ExitCode::ok;
  }

  RunConfig& config = command.config;
  install_stop_signals();
  const Runtime runtime = start_runtime(config.runtime, process.local_rank());
  // Everything that can be wrong with data and settings shows here, before a folder is made.
  Trainer trainer(config, command.resolved, runtime, process);
  const Start start = find_start(command.resume, config, command.resolved);
  if (start.checkpoint) trainer.restore(*start.checkpoint);
  log::open_log_file(start.folder.log());
  write_atomic(start.folder.config(), config_env_text(command.resolved));
  log::info(start.folder.log().string());
  log::file_only(format("train_gpt %s, LibTorch %s", PGOLF_VERSION, TORCH_VERSION));
  for (const auto& warning : command.warnings) log::file_only("warning: " + warning);
  trainer.log_setup();
  const ExitCode trained = trainer.train(start.folder);
  if (trained != ExitCode::ok) return trained;
  return export_model(trainer, start.folder, static_cast<int64_t>(pgolf_source_bundle_size));
}

}  // namespace

int main(int argc, char** argv) {
  return run_main([&] { return run(argc, argv); });
}
