#include "pgolf/dist/process.h"

#include <cstdlib>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/parse.h"

namespace pgolf {
namespace {

constexpr int kMaxPort = 65535;

[[noreturn]] void refuse(const std::string& what, const std::string& hint) {
  throw Error(ExitCode::usage, what, hint);
}

int read_int(const Process::Environment& get, const char* name) {
  const char* text = get(name);
  if (text == nullptr) {
    refuse(format("%s is missing, but RANK and WORLD_SIZE are set", name),
           "start the job with torchrun or scripts/launch.sh, which set it; or unset RANK and WORLD_SIZE for a single process");
  }
  const auto value = parse_integer(text);
  if (!value || *value < 0 || *value > 1'000'000) {
    refuse(format("%s=%s is not a whole number", name, printable(text).c_str()),
           "the launcher sets it (torchrun, srun); unset it for a single process");
  }
  return static_cast<int>(*value);
}

}  // namespace

std::string first_slurm_host(const std::string& node_list) {
  const size_t bracket = node_list.find('['), comma = node_list.find(',');
  if (bracket == std::string::npos || comma < bracket) return node_list.substr(0, comma);
  const size_t end = node_list.find_first_of(",-]", bracket);
  return node_list.substr(0, bracket) + node_list.substr(bracket + 1, end - bracket - 1);
}

void Process::read_launcher(const Environment& get) {
  rank_ = read_int(get, "RANK");
  world_size_ = read_int(get, "WORLD_SIZE");
  if (world_size_ > 1 || get("LOCAL_RANK") != nullptr) local_rank_ = read_int(get, "LOCAL_RANK");
  if (world_size_ == 1) return;
  local_world_size_ = read_int(get, "LOCAL_WORLD_SIZE");
  const char* const address = get("MASTER_ADDR");
  if (address == nullptr || *address == '\0') {
    refuse(format("WORLD_SIZE=%d, but MASTER_ADDR is missing", world_size_), "set it to the host of rank 0");
  }
  master_addr_ = address;
  master_port_ = read_int(get, "MASTER_PORT");
  const char* const agent = get("TORCHELASTIC_USE_AGENT_STORE");
  launcher_has_store_ = agent != nullptr && std::string(agent) == "True";
  for (const char* name : {"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"}) {
    if (const char* const text = get(name)) attempt_ += std::string(text) + "/";
  }
}

void Process::read_slurm(const Environment& get) {
  rank_ = read_int(get, "SLURM_PROCID");
  world_size_ = read_int(get, "SLURM_STEP_NUM_TASKS");
  local_rank_ = read_int(get, "SLURM_LOCALID");
  // "4", "4(x2)" or "4,3": of a step's nodes in turn. Only the number on this node matters, and the first is the largest.
  const char* const tasks = get("SLURM_STEP_TASKS_PER_NODE");
  local_world_size_ = tasks == nullptr ? local_rank_ + 1 : static_cast<int>(std::strtol(tasks, nullptr, 10));
  bound_by_slurm_ = get("SLURM_GPUS_ON_NODE") == nullptr || read_int(get, "SLURM_GPUS_ON_NODE") >= local_world_size_;
  const char *const address = get("MASTER_ADDR"), *const nodes = get("SLURM_STEP_NODELIST");
  if (address == nullptr && nodes == nullptr) refuse("neither MASTER_ADDR nor SLURM_STEP_NODELIST is set", "start with srun");
  master_addr_ = address != nullptr ? address : first_slurm_host(nodes);
  constexpr int base_port = 29500, ports = 1000;
  master_port_ = get("MASTER_PORT") != nullptr ? read_int(get, "MASTER_PORT") : base_port + read_int(get, "SLURM_JOB_ID") % ports;
}

void Process::check() const {
  if (world_size_ < 1) refuse(format("WORLD_SIZE=%d must be at least 1", world_size_), "");
  if (rank_ >= world_size_) refuse(format("RANK=%d must be below WORLD_SIZE=%d", rank_, world_size_), "");
  if (world_size_ == 1) return;
  if (local_world_size_ < 1 || local_world_size_ > world_size_) {
    refuse(format("LOCAL_WORLD_SIZE=%d must be from 1 to WORLD_SIZE=%d", local_world_size_, world_size_), "");
  }
  if (local_rank_ >= local_world_size_ || local_rank_ > rank_) {
    refuse(format("LOCAL_RANK=%d must be below LOCAL_WORLD_SIZE=%d and at most RANK=%d", local_rank_, local_world_size_, rank_),
           "");
  }
  if (master_port_ < 1 || master_port_ > kMaxPort) {
    refuse(format("MASTER_PORT=%d is not a port", master_port_), format("give a free one from 1024 to %d", kMaxPort));
  }
}

void Process::divide_step(int grad_accum_steps) {
  if (grad_accum_steps == 0 && kMicroSteps % world_size_ != 0) {
    refuse(format("WORLD_SIZE=%d must divide %d, so that grad_accum_steps = %d / WORLD_SIZE is whole", world_size_, kMicroSteps,
                  kMicroSteps),
           "give GRAD_ACCUM_STEPS; the batches are then not upstream's");
  }
  grad_accum_steps_ = grad_accum_steps;
}

Process Process::from_environment(const Environment& get) {
  Process process;
  const bool rank = get("RANK") != nullptr, world = get("WORLD_SIZE") != nullptr;
  if (rank != world) {
    refuse(format("%s is set, but %s is missing", rank ? "RANK" : "WORLD_SIZE", rank ? "WORLD_SIZE" : "RANK"),
           "set both (torchrun does), or neither for a single process");
  }
  if (rank) {
    process.read_launcher(get);
  } else if (get("SLURM_STEP_NUM_TASKS") != nullptr && read_int(get, "SLURM_STEP_NUM_TASKS") > 1) {
    process.read_slurm(get);
  }
  process.check();
  return process;
}

}  // namespace pgolf
