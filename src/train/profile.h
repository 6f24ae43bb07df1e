// PROFILE=N: where the time of N optimiser steps goes, operation by operation.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <optional>

#include "pgolf/run/run_folder.h"

namespace pgolf {

/// Records steps with LibTorch's profiler and writes RunFolder::profile_trace(), a Chrome trace (ui.perfetto.dev shows it),
/// and RunFolder::profile_table(), which goes to the log too: calls and self time per operation and step, added
/// up over threads, and its share of the threads' time. Its row
/// "(optimiser step)" is the time outside of all operations; what happens between steps (validation, checkpoints) is in the
/// trace only.
class StepProfiler {
 public:
  /// Of the steps after the first kWarmSteps; 0: none.
  StepProfiler(int steps, const RunFolder& folder, const at::Device& device);
  /// Drops what was recorded and not written.
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  static constexpr int kWarmSteps = 3;

  void begin_step();
  /// Writes the files after the last step of the profile.
  void end_step();
  /// After the run: writes what there is if it ended before that step, and warns.
  void finish();

 private:
  void write();

  int steps_;
  RunFolder folder_;
  at::Device device_;
  int seen_ = 0;                             ///< steps ended
  bool recording_ = false;                   ///< LibTorch's profiler is on
  std::optional<at::RecordFunction> range_;  ///< the step under way
};

}  // namespace pgolf
