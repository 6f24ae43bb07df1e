// Output of a run during training: log lines and metrics.jsonl.
#pragma once

#include <optional>

#include "pgolf/base/progress.h"
#include "pgolf/model_io/checkpoint.h"
#include "pgolf/run/record_file.h"
#include "pgolf/run/run_folder.h"
#include "pgolf/train/trainer.h"

namespace pgolf {

/// Only the master process writes; in others every call is a no-op.
class RunLog {
 public:
  /// resumed_at: the step from which a run is resumed; -1 for a new run.
  RunLog(const RunFolder& folder, const RunConfig& config, const Process& process, int64_t resumed_at);

  /// Writes the record if the folder has none: a new run, or one resumed from another folder's checkpoint.
  void started(const RunRecord& record);
  void resumed(const TrainingState& state);
  /// last: the time cap is reached, so this is the last step.
  void step(const StepRecord& record, double now_ms, bool last);
  void validated(const EvalResult& result, const TrainingState& state);
  void looping(int64_t step, double used, const BlockOrder& order) const;
  void interrupted(int signal, int64_t step);
  void stopped_early(const TrainingState& state);
  void ended(const TrainingState& state, const PeakMemory& memory, int64_t rope_table_bytes);
  void averaging() const;
  /// A score after training.
  void scored(const char* name, const EvalResult& result, double eval_ms);

 private:
  template <class Record>
  void write(const Record& record) {
    if (metrics_) metrics_->write(record);
  }
  void log_line(const std::string& line) const;
  void show_progress(const StepRecord& record, double now_ms);

  RunFolder folder_;
  const RunConfig& config_;
  std::optional<RecordFile> metrics_;  ///< in the master process
  std::optional<Progress> bar_;
};

}  // namespace pgolf
