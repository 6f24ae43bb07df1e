// From option values to the list of runs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "pgolf/config/train_options.h"

namespace pgolf {

struct SweepRequest {
  /// Options of train_gpt and the values each takes: names as in the environment, values as written.
  std::vector<std::pair<std::string, std::vector<std::string>>> varied;
  std::vector<std::string> fixed;  ///< arguments passed to every run unchanged
  std::string out_dir;
  /// NUM_THREADS of every run; 0: train_gpt decides.
  int threads = 0;
};

struct PlannedRun {
  std::string run_id;
  /// The combinations that resolve to this run, without the seed, each "ROPE_DIMS=96 QK_NORM=0"; train_gpt gets the first one.
  std::vector<std::string> requested;
  std::vector<std::string> arguments;  ///< of train_gpt
  TrainCommand command;
};

struct SweepPlan {
  std::vector<std::string> varied;  ///< names
  std::vector<PlannedRun> runs;     ///< all arms of the first seed, then of the next one
  std::vector<std::string> notes;   ///< to be logged
  std::vector<std::string> warnings;
};

/// The cross product, each combination resolved as train_gpt will resolve it. Combinations that resolve to the same
/// work are one run. A run's name has the varied options and ends in eight digits of a hash over everything that can change
/// its results, so it is stable across calls and differs if anything else does.
/// Error(usage): what train_gpt rejects; an option both varied and fixed; fixed arguments that are not settings.
SweepPlan plan_sweep(const SweepRequest& request, const Environment& environment);

/// The text quoted as one word of a shell command.
std::string shell_quoted(const std::string& text);

/// A shell command of these words, quoted.
std::string shell_line(const std::vector<std::string>& words);

}  // namespace pgolf
