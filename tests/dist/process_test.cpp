#include "pgolf/dist/process.h"

#include <gtest/gtest.h>

#include <map>

#include "support/files.h"

namespace pgolf {

namespace {

using testing::expect_error;

using Variables = std::map<std::string, std::string>;

Process process_of(const Variables& variables, int grad_accum_steps = 1) {
  const auto get = [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
  Process process = Process::from_environment(get);
  process.divide_step(grad_accum_steps);
  return process;
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node0"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                             {"TORCHELASTIC_RUN_ID", "job7"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"}};

Variables with(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}
Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

TEST(Process, AloneWithoutALauncher) {
  const Process process = process_of({}, 0);
  EXPECT_EQ(process.rank(), 0);
  EXPECT_EQ(process.world_size(), 1);
  EXPECT_TRUE(process.is_master());
  EXPECT_EQ(process.grad_accum_steps(), 8);
  EXPECT_EQ(process_of({{"LOCAL_RANK", "3"}}).local_rank(), 0) << "not a job's variable by itself";
}

TEST(Process, ReadsWhatTorchrunSets) {
  const Process process = process_of(kTorchrun, 0);
  EXPECT_EQ(process.rank(), 5);
  EXPECT_EQ(process.world_size(), 8);
  EXPECT_EQ(process.local_rank(), 1);
  EXPECT_EQ(process.local_world_size(), 4);
  EXPECT_FALSE(process.is_master());
  EXPECT_EQ(process.grad_accum_steps(), 1);
  EXPECT_EQ(process.micro_steps(), 8);
  EXPECT_EQ(process.master_addr(), "node0");
  EXPECT_EQ(process.master_port(), 29500);
  EXPECT_TRUE(process.launcher_has_store());
  EXPECT_NE(process.attempt(), process_of(with(kTorchrun, "TORCHELASTIC_RESTART_COUNT", "3")).attempt());
}

TEST(Process, OneProcessUnderTorchrunNeedsNoAddress) {
  const Process process = process_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"LOCAL_RANK", "2"}});
  EXPECT_EQ(process.world_size(), 1);
  EXPECT_EQ(process.local_rank(), 2);
}

TEST(Process, RefusesWhatIsMissingOrContradictory) {
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    expect_error(ExitCode::usage, {name, "missing"}, [&] { process_of(without(kTorchrun, name)); });
  }
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"}) {
    for (const char* value : {"", "x", "-1", "1.5", "99999999999999999999"}) {
      expect_error(ExitCode::usage, {name, "not a whole number"}, [&] { process_of(with(kTorchrun, name, value)); });
    }
  }
  expect_error(ExitCode::usage, {"RANK=8", "WORLD_SIZE=8"}, [] { process_of(with(kTorchrun, "RANK", "8")); });
  expect_error(ExitCode::usage, {"LOCAL_RANK=4", "LOCAL_WORLD_SIZE=4"}, [] { process_of(with(kTorchrun, "LOCAL_RANK", "4")); });
  expect_error(ExitCode::usage, {"LOCAL_WORLD_SIZE=9"}, [] { process_of(with(kTorchrun, "LOCAL_WORLD_SIZE", "9")); });
  expect_error(ExitCode::usage, {"MASTER_PORT=0"}, [] { process_of(with(kTorchrun, "MASTER_PORT", "0")); });
  expect_error(ExitCode::usage, {"WORLD_SIZE=0"}, [] { process_of(with(kTorchrun, "WORLD_SIZE", "0")); });
}

TEST(Process, OtherWorldSizesNeedGradAccumSteps) {
  const auto six = with(kTorchrun, "WORLD_SIZE", "6");
  expect_error(ExitCode::usage, {"WORLD_SIZE=6 must divide 8"}, [&] { process_of(six, 0); });
  EXPECT_EQ(process_of(six, 2).micro_steps(), 12);
  EXPECT_EQ(process_of({}, 3).grad_accum_steps(), 3);
}

TEST(Process, TakesTheGpuOfItsLocalRank) {
  EXPECT_EQ(process_of(kTorchrun).gpu_index(4), process_of(kTorchrun).local_rank());
  EXPECT_EQ(process_of(kTorchrun).gpu_index(1), process_of(kTorchrun).local_rank());
}

TEST(Process, ReadsSlurmsVariablesWithinAStep) {
  const Variables slurm = {
      {"SLURM_PROCID", "3"},     {"SLURM_STEP_NUM_TASKS", "4"},        {"SLURM_LOCALID", "1"},
      {"SLURM_JOB_ID", "70123"}, {"SLURM_STEP_NODELIST", "gpu[03,7]"}, {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"}};
  const Process process = process_of(slurm);
  EXPECT_EQ(process.rank(), 3);
  EXPECT_EQ(process.world_size(), 4);
  EXPECT_EQ(process.local_rank(), 1);
  EXPECT_EQ(process.local_world_size(), 2);
  EXPECT_EQ(process.master_addr(), "gpu03");
  EXPECT_EQ(process.master_port(), 29623);
  EXPECT_EQ(process_of(with(with(slurm, "MASTER_PORT", "1234"), "MASTER_ADDR", "10.0.0.1")).master_addr(), "10.0.0.1");
  EXPECT_EQ(process.gpu_index(2), 1);
  EXPECT_EQ(process.gpu_index(1), 0) << "bound to this task";
  EXPECT_EQ(process_of(with(slurm, "SLURM_GPUS_ON_NODE", "2")).gpu_index(1), 0);
  EXPECT_EQ(process_of(with(slurm, "SLURM_GPUS_ON_NODE", "1")).gpu_index(1), 1) << "two tasks, one GPU: the caller refuses";
  // A batch script's own shell has these, too, and is one process.
  EXPECT_EQ(process_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_STEP_NUM_TASKS", "1"}}).world_size(), 1);
  // torchrun within a job goes first.
  auto both = kTorchrun;
  both.insert(slurm.begin(), slurm.end());
  EXPECT_EQ(process_of(both).rank(), 5);
}

TEST(Process, FindsTheFirstSlurmHost) {
  for (const auto& [list, first] :
       Variables{{"a", "a"}, {"a,b", "a"}, {"gpu[03-05,9],login", "gpu03"}, {"gpu[7,9]", "gpu7"}, {"login,gpu[1-2]", "login"}}) {
    EXPECT_EQ(first_slurm_host(list), first) << list;
  }
}

}  // namespace
}  // namespace pgolf
