#include "pgolf/base/cores.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string>

#include "pgolf/base/format.h"

namespace pgolf {

int usable_physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::ifstream siblings(format("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu));
    std::string line;
    if (!std::getline(siblings, line)) line = std::to_string(cpu);
    cores.insert(line);
  }
  int count = std::max<int>(1, static_cast<int>(cores.size()));
  std::ifstream quota_file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (quota_file >> quota >> period && period > 0) count = std::clamp(static_cast<int>(std::ceil(quota / period)), 1, count);
  return count;
}

}  // namespace pgolf
