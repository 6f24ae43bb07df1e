// The processors of this machine.
#pragma once

namespace pgolf {

/// Physical cores that the process may use: its affinity mask, hyper-threads counted once, and the cgroup's quota.
int usable_physical_cores();

}  // namespace pgolf
