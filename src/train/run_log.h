// Output of a run during training: log lines and metrics.jsonl.
#pragma once

#include <optional>

#include "pgolf/base/progress.h"
#include "pgolf/model_io/checkpoint.h"
#include "pgolf/run/record_file.h"
#include "pgolf/run/run_folder.h"
#include "pgolf/train/trainer.h"

namespace pgolf {

/// A line and a record of a score after training.
void write_score(RecordFile& records, const char* name, const EvalResult& result, double eval_ms);

/// Only the master process writes; in others every call is a no-op.
class RunLog {
 public:
  /// records: null in other processes than the master.
  RunLog(const RunFolder& folder, const RunConfig& config, RecordFile* records);

  /// Writes the record if the folder has none: a new run, or one resumed from another folder's checkpoint.
  void started(const RunRecord& record);
  void resumed(const TrainingState& state);
  /// last: the time cap is reached, so this is the last step.
  void step(const StepRecord& record, double now_ms, bool last);
  void validated(const EvalResult& result, const TrainingState& state, const PeakMemory& memory);
  void sampled(int64_t step, const std::string& text);
  /// For TensorBoard; null without it.
  EventFile* events() { return records_ != nullptr ? records_->events() : nullptr; }
  void looping(int64_t step, double used, const BlockOrder& order) const;
  void rotation_dropped(int64_t step, double used) const;
  void interrupted(int signal, int64_t step, const std::filesystem::path& saved);
  void stopped_early(const TrainingState& state);
  void ended(const TrainingState& state, const PeakMemory& memory, int64_t rope_table_bytes);
  void averaging() const;
  /// write_score.
  void scored(const char* name, const EvalResult& result, double eval_ms) const;

 private:
  template <class Record>
  void write(const Record& record) {
    if (records_ != nullptr) records_->write(record);
  }
  void log_line(const std::string& line) const;
  void show_progress(const StepRecord& record, double now_ms);
  void write_rates(const StepRecord& record, double now_ms);

  RunFolder folder_;
  const RunConfig& config_;
  RecordFile* records_;
  std::optional<Progress> bar_;
  double last_step_ms_ = 0;  ///< training time at the end of the last step
};

}  // namespace pgolf
