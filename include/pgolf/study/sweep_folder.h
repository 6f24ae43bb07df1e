// What sweep_gpt keeps in its folder beside the run folders.
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
  /// What a run and its measurement print, of all tries.
  std::filesystem::path log(const std::string& run_id) const { return path / "logs" / (run_id + ".log"); }
  std::filesystem::path plan(const std::string& run_id) const { return path / "plan" / (run_id + ".json"); }

  /// Makes the folders. Error(io) if that is not possible or nothing can be written there.
  void create() const;

  /// Keeps other sweeps out until this process and those that it starts have ended. Error(usage) if one is in it; a moment
  /// is waited for what a killed one leaves behind.
  void lock() const;
};

/// What is remembered about a planned run: which combinations asked for it, in all calls.
struct RunNote {
  std::vector<std::string> requested, varied, arguments;
  std::optional<int> exit_code;  ///< of training, where it failed
};

/// Command lines of sweep_gpt that worked in this folder, in order, each once.
void note_call(const SweepFolder& folder, const std::string& line);
std::vector<std::string> read_calls(const SweepFolder& folder);

/// Merges with what is noted already.
void note_plan(const SweepFolder& folder, const SweepPlan& plan, const PlannedRun& run);
void note_exit(const SweepFolder& folder, const std::string& run_id, std::optional<int> exit_code);
/// Empty if there is none.
RunNote read_note(const SweepFolder& folder, const std::string& run_id);

}  // namespace pgolf
