// The files that sweep_gpt keeps in its folder besides the run folders.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/run/run_folder.h"
#include "pgolf/study/plan.h"

namespace pgolf {

struct SweepFolder {
  std::filesystem::path path;

  RunFolder run(const std::string& run_id) const { return {path / run_id}; }
  /// Output of a run and its measurement, of all attempts.
  std::filesystem::path log(const std::string& run_id) const { return path / "logs" / (run_id + ".log"); }
  std::filesystem::path plan(const std::string& run_id) const { return path / "plan" / (run_id + ".json"); }

  /// Creates the folders. Error(io) if they cannot be created or written.
  void create() const;

  /// Locks the folder until this process and its children have ended. Error(usage) if another sweep holds the lock, after a
  /// short wait for the children of a killed one.
  void lock() const;
};

/// What is stored about a planned run: the combinations that requested it, over all calls.
struct RunNote {
  std::vector<std::string> requested, varied, arguments;
  std::optional<int> exit_code;  ///< of training, if it failed
};

/// Command lines of sweep_gpt run in this folder, in order, without duplicates.
void note_call(const SweepFolder& folder, const std::string& line);
std::vector<std::string> read_calls(const SweepFolder& folder);

/// Merges with the existing note.
void note_plan(const SweepFolder& folder, const SweepPlan& plan, const PlannedRun& run);
void note_exit(const SweepFolder& folder, const std::string& run_id, std::optional<int> exit_code);
/// Empty if there is none.
RunNote read_note(const SweepFolder& folder, const std::string& run_id);

}  // namespace pgolf
