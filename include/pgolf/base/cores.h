// The processors of this machine.
#pragma once

#include <filesystem>

namespace pgolf {

/// Physical cores that the process may use: its affinity mask, hyper-threads counted once, and the cgroups' quota.
int usable_physical_cores();

/// What OMP_NUM_THREADS says, else usable_physical_cores().
int default_threads();

/// Processors' worth of time that the process's cgroup and those around it allow, of either version; infinity without a limit.
/// The arguments: the process's own list of cgroups, and where their file systems are.
double cgroup_quota(const std::filesystem::path& membership = "/proc/self/cgroup",
                    const std::filesystem::path& mount = "/sys/fs/cgroup");

}  // namespace pgolf
