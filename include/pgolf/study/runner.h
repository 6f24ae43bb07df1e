// Runs a planned sweep: train_gpt and eval_gpt as child processes, several at a time.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/study/plan.h"
#include "pgolf/study/sweep_folder.h"

namespace pgolf {

struct RunnerOptions {
  std::filesystem::path train_gpt, eval_gpt;
  int jobs = 1;
  std::vector<std::string> devices;  ///< CUDA_VISIBLE_DEVICES of the jobs, in turn; empty: not set
  bool measure = true;
  std::vector<std::string> eval_seq_lens;  ///< of eval_gpt measure
};

/// The command line that trains a run.
std::vector<std::string> train_command(const RunnerOptions& options, const PlannedRun& run);
/// The command line that measures it.
std::vector<std::string> measure_command(const RunnerOptions& options, const SweepFolder& folder, const PlannedRun& run);

struct SweepOutcome {
  ExitCode code = ExitCode::ok;  ///< ok, interrupted, or the exit code of the first run that failed
  size_t failed = 0;             ///< runs
};

/// Trains the unfinished runs and measures those without measurements at all lengths, in plan order. A failed run is reported
/// and does not stop the others. SIGINT, SIGTERM and SIGHUP (as SIGTERM) are forwarded; train_gpt saves a checkpoint, and this
/// waits for it. A second signal kills.
SweepOutcome run_sweep(const std::vector<PlannedRun>& runs, const SweepFolder& folder, const RunnerOptions& options);

}  // namespace pgolf
