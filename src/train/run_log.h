// What a run says of itself while it trains: lines for people, and metrics.jsonl.
#pragma once

#include <optional>

#include "pgolf/model_io/checkpoint.h"
#include "pgolf/base/progress.h"
#include "pgolf/run/record_file.h"
#include "pgolf/run/run_folder.h"
#include "pgolf/train/trainer.h"

namespace pgolf {

/// Only the process that writes says anything; to the others every call is nothing.
class RunLog {
 public:
  /// resumed_at: the step that a continued run goes on from; -1 for a new one.
  RunLog(const RunFolder& folder, const RunConfig& config, const Process& process, int64_t resumed_at);

  /// Writes the record if the folder has none: a new run, or one that continues another folder's checkpoint.
  void started(const RunRecord& record);
  void resumed(const TrainingState& state);
  /// last: the time is up, so that this step is the last one's.
  void step(const StepRecord& record, double now_ms, bool last);
  void validated(const EvalResult& result, const TrainingState& state);
  void interrupted(int signal, int64_t step);
  void stopped_early(const TrainingState& state);
  void ended(const TrainingState& state, const PeakMemory& memory, int64_t rope_table_bytes);

 private:
  template <class Record>
  void write(const Record& record) {
    if (metrics_) metrics_->write(record);
  }
  void say(const std::string& line) const;
  void show_progress(const StepRecord& record, double now_ms);

  RunFolder folder_;
  const RunConfig& config_;
  std::optional<RecordFile> metrics_;  ///< of the process that writes
  std::optional<Progress> bar_;
};

}  // namespace pgolf
