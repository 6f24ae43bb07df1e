// What a run left in its folder: config.env, metrics.jsonl and, if it was measured, measures.jsonl.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/config/train_options.h"

namespace pgolf {

struct TrainPoint {
  int64_t step = 0, tokens = 0;
  double loss = 0, time_ms = 0;
  std::optional<double> grad_norm;
};

struct ValPoint {
  int64_t step = 0;
  double loss = 0, bpb = 0;
};

struct LengthMeasure {
  int64_t seq_len = 0;
  std::optional<int64_t> tokens, table_bytes, table_bytes_computed, kv_cache_bytes;
  std::optional<double> loss, bpb, stderr_loss, last_bucket_loss;
};

struct PositionMeasure {
  int64_t seq_len = 0, from = 0, to = 0, tokens = 0;  ///< targets at from <= position < to
  std::optional<double> loss;
};

struct RetrievalMeasure {
  std::string task;
  int64_t seq_len = 0, distance = 0, items = 0;
  std::optional<double> accuracy, stderr_accuracy, loss;
};

struct AttentionMeasure {
  int64_t layer = 0, head = 0;
  std::optional<double> distance, entropy, first_token, previous_token, rotated_share;
};

enum class RunStatus { finished, diverged, unfinished };

struct RunResult {
  std::string name;  ///< of its folder, relative to the collected one
  std::filesystem::path folder;
  TrainCommand command;                                   ///< its configuration, resolved from config.env
  std::vector<std::string> requested, varied, arguments;  ///< of the sweep that planned it; empty without one
  std::string program_version;                            ///< empty if the run does not say
  std::vector<TrainPoint> train;
  std::vector<ValPoint> val;
  bool finished = false;         ///< trained to the end and exported
  std::optional<int> exit_code;  ///< of the last try, where a sweep noted a failure
  std::optional<int64_t> peak_allocated_bytes, peak_reserved_bytes, rope_table_bytes;
  bool measured = false;
  std::vector<LengthMeasure> lengths;
  std::vector<PositionMeasure> positions;
  std::vector<RetrievalMeasure> retrieval;
  std::vector<AttentionMeasure> attention;
  std::optional<double> shift_max_change;  ///< over all shifts
  std::vector<std::string> problems;       ///< lines that could not be read

  int64_t seed() const { return command.config.runtime.seed; }
  /// diverged: stopped because a number was not finite, or ended no better than guessing (validation loss >= ln VOCAB_SIZE).
  RunStatus status() const;
};

/// "finished", "diverged", "unfinished".
std::string status_text(RunStatus status);

bool is_run_folder(const std::filesystem::path& folder);

/// Whether the run in this folder, if there is one, was trained to its end.
bool is_finished(const std::filesystem::path& folder);

/// Window lengths that a measures.jsonl has, ascending; none if there is no such file.
std::vector<int> measured_lengths(const std::filesystem::path& measures);

/// root / name. A line that is no JSON object or lacks a number is left out and listed in problems; a cut last line is
/// what a killed run leaves, and no problem while the run is unfinished. Error(bad_input, usage) if config.env is not one of
/// train_gpt's.
RunResult read_run(const std::filesystem::path& root, const std::string& name);

/// Folders of runs at or below root, relative to it, sorted.
std::vector<std::string> find_runs(const std::filesystem::path& root);

}  // namespace pgolf
