// This process's rank in a training job, and everything that depends on it: the loader's slice, Muon's share of the matrices,
// reductions, and which process writes files.
#pragma once

#include <functional>
#include <string>

#include "pgolf/config/micro_steps.h"

namespace pgolf {

class Process {
 public:
  /// Reads RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them, through get (nullptr = unset).
  /// Error(usage) for inconsistent values, Error(unavailable) for a world size above 1.
  static Process from_environment(const std::function<const char*(const char*)>& get);

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  int local_rank() const { return local_rank_; }
  bool is_master() const { return rank_ == 0; }

  /// This process's micro-steps per optimizer step.
  int grad_accum_steps() const { return kMicroSteps / world_size_; }

 private:
  int rank_ = 0, world_size_ = 1, local_rank_ = 0;
};

}  // namespace pgolf
