// From "these options take these values" to the list of runs.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pgolf/config/train_options.h"

namespace pgolf {

struct SweepRequest {
  /// Options of train_gpt and the values each takes: names as in the environment, every value as it was written.
  std::vector<std::pair<std::string, std::vector<std::string>>> varied;
  std::vector<std::string> fixed;  ///< arguments that every run gets as they are
  std::string out_dir;
  /// NUM_THREADS of every run; 0: train_gpt decides.
  int threads = 0;
};

struct PlannedRun {
  std::string run_id;
  /// The combinations that come to this run, without the seed, each "ROPE_DIMS=96 QK_NORM=0"; train_gpt is told the first one.
  std::vector<std::string> requested;
  std::vector<std::string> arguments;  ///< of train_gpt
  TrainCommand command;
};

struct SweepPlan {
  std::vector<std::string> varied;  ///< names
  std::vector<PlannedRun> runs;     ///< all arms of the first seed, then of the next one
  std::vector<std::string> notes;   ///< worth a line of log
  std::vector<std::string> warnings;
};

/// The cross product, each combination resolved as train_gpt will resolve it. Combinations that come to the same work are
/// one run. A run's name says the varied options and ends in eight digits of a hash over everything that can change its
/// results, so that it is the same at every call and differs where anything else does.
/// Error(usage): what train_gpt refuses; an option both varied and fixed; fixed arguments that are no settings.
SweepPlan plan_sweep(const SweepRequest& request, const Environment& environment);

/// The text as one word of a shell's command line.
std::string shell_quoted(const std::string& text);

/// Words of a command line, quoted.
std::string shell_line(const std::vector<std::string>& words);

}  // namespace pgolf
