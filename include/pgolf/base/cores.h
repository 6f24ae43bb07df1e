// The CPU cores of this machine.
#pragma once

#include <filesystem>

namespace pgolf {

/// Physical cores available to the process, by its affinity mask (hyper-threads counted once) and the cgroup quota.
int usable_physical_cores();

/// OMP_NUM_THREADS if set, else usable_physical_cores() divided among so many processes.
int default_threads(int processes = 1);

/// CPU quota of the process's cgroup and its ancestors (v1 or v2), in CPUs; infinity without a limit.
/// membership: the process's list of cgroups; mount: where their file systems are.
double cgroup_quota(const std::filesystem::path& membership = "/proc/self/cgroup",
                    const std::filesystem::path& mount = "/sys/fs/cgroup");

}  // namespace pgolf
