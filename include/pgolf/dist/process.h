// Which process of a training job this is, as the launcher says it in environment variables.
#pragma once

#include <functional>
#include <string>

#include "pgolf/config/micro_steps.h"

namespace pgolf {

/// What torchrun (or scripts/launch.sh, or srun) tells a process. A default-made one is a job of one process.
class Process {
 public:
  using Environment = std::function<const char*(const char*)>;  ///< nullptr = unset

  /// A job of one process, as without a launcher.
  Process() = default;

  /// Reads RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT and TORCHELASTIC_*; without RANK and
  /// WORLD_SIZE, but within a Slurm step of several tasks, their SLURM_* counterparts; without either a job of one process.
  /// Error(usage) for values that are missing, malformed, or contradict one another.
  static Process from_environment(const Environment& get);

  /// grad_accum_steps: GRAD_ACCUM_STEPS; 0 = kMicroSteps / WORLD_SIZE, which is the case before the first call.
  /// Error(usage) for 0 and a WORLD_SIZE that does not divide kMicroSteps.
  void divide_step(int grad_accum_steps);

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  int local_rank() const { return local_rank_; }
  int local_world_size() const { return local_world_size_; }
  bool is_master() const { return rank_ == 0; }
  /// Which of the GPUs that this process sees is its own: its local rank, or the only one where Slurm binds GPUs to tasks.
  int gpu_index(int visible) const { return bound_by_slurm_ && visible == 1 ? 0 : local_rank_; }

  /// Micro-steps per optimizer step that are this process's.
  int grad_accum_steps() const { return grad_accum_steps_ > 0 ? grad_accum_steps_ : kMicroSteps / world_size_; }
  /// Of all processes. Equal numbers see equal batches, whatever the world size.
  int micro_steps() const { return grad_accum_steps() * world_size_; }

  /// Where the processes meet. A job of one has "" and 0.
  const std::string& master_addr() const { return master_addr_; }
  int master_port() const { return master_port_; }
  /// The launcher runs the store at that address; otherwise rank 0 does.
  bool launcher_has_store() const { return launcher_has_store_; }
  /// Tells restarts of a job apart in a store that outlives them.
  const std::string& attempt() const { return attempt_; }

 private:
  void read_launcher(const Environment& get);
  void read_slurm(const Environment& get);
  void check() const;

  int rank_ = 0, world_size_ = 1, local_rank_ = 0, local_world_size_ = 1, grad_accum_steps_ = 0, master_port_ = 0;
  bool launcher_has_store_ = false;
  bool bound_by_slurm_ = false;  ///< there is a GPU for each task on this node, so one that sees only one has its own
  std::string master_addr_, attempt_;
};

/// The first host of a Slurm node list: "gpu[03-05,9],login" -> "gpu03".
std::string first_slurm_host(const std::string& node_list);

}  // namespace pgolf
