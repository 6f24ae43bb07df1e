// The results in a run folder: config.env, metrics.jsonl and, if it was measured, measures.jsonl.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/config/train_options.h"
#include "pgolf/run/records.h"
#include "pgolf/run/run_folder.h"

namespace pgolf {

/// A head's attention, with the rotated dimensions' share of its logits.
struct HeadMeasure : AttentionRecord {
  std::optional<double> rotated_share;
};

enum class RunStatus { finished, diverged, unfinished };

struct RunResult {
  std::string name;  ///< its folder, relative to the collected one
  std::filesystem::path folder;
  TrainCommand command;                                   ///< its configuration, resolved from config.env
  std::vector<std::string> requested, varied, arguments;  ///< of the sweep that planned it; empty without one
  std::string program_version;                            ///< empty if unknown
  std::vector<TrainRecord> train;
  std::vector<ValRecord> val;
  bool finished = false;         ///< trained to the end and exported
  std::optional<int> exit_code;  ///< of the last attempt, if a sweep recorded a failure
  EndRecord end;                 ///< empty if the run did not get there
  bool measured = false;
  std::vector<LengthRecord> lengths;
  std::vector<PositionRecord> positions;
  std::vector<RetrievalRecord> retrieval;
  std::vector<HeadMeasure> attention;
  std::optional<double> shift_max_change;  ///< over all shifts
  std::vector<std::string> problems;       ///< lines that could not be read

  int64_t seed() const { return command.config.runtime.seed; }
  /// diverged: stopped at a non-finite value, or ended no better than chance (validation loss >= ln VOCAB_SIZE).
  RunStatus status() const;
};

/// "finished", "diverged", "unfinished".
std::string status_text(RunStatus status);

/// Whether this folder has a run that was trained to its end.
bool is_finished(const RunFolder& folder);

/// Window lengths in a measures.jsonl, ascending; empty if the file does not exist.
std::vector<int> measured_lengths(const std::filesystem::path& measures);

/// Reads root / name. A line that is not a JSON object or lacks a number is skipped and listed in problems; a truncated last
/// line, as a killed run leaves it, is not a problem while the run is unfinished. Error(bad_input, usage) if config.env is not
/// one of train_gpt's.
RunResult read_run(const std::filesystem::path& root, const std::string& name);

/// Run folders in or below root, relative to it, sorted.
std::vector<std::string> find_runs(const std::filesystem::path& root);

}  // namespace pgolf
