// PROFILE=N: where the time of N optimizer steps goes, by operation.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <optional>

#include "pgolf/run/run_folder.h"

namespace pgolf {

/// Records steps with LibTorch's profiler and writes RunFolder::profile_trace(), a Chrome trace (open it in
/// ui.perfetto.dev), and RunFolder::profile_table(), which is also logged: calls and self time per operation and step, summed
/// over threads, and the share of the threads' time. The row "(optimizer step)" is the time outside all operations; whatever
/// happens between steps (validation, checkpoints) is only in the trace.
class StepProfiler {
 public:
  /// Profiles this many steps after the first kWarmupSteps; 0: none.
  StepProfiler(int steps, const RunFolder& folder, const at::Device& device);
  /// Discards what was recorded but not written.
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  static constexpr int kWarmupSteps = 3;

  void begin_step();
  /// Writes the files after the last profiled step.
  void end_step();
  /// After the run: if it ended before that step, writes what was recorded and warns.
  void finish();

 private:
  void write();

  int steps_;
  RunFolder folder_;
  at::Device device_;
  int seen_ = 0;                             ///< steps ended
  bool recording_ = false;                   ///< LibTorch's profiler is on
  std::optional<at::RecordFunction> range_;  ///< the current step
};

}  // namespace pgolf
