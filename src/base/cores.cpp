#include "pgolf/base/cores.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <string>

#include "pgolf/base/format.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

/// cgroup v2: cpu.max is "QUOTA PERIOD", with "max" for no quota.
double quota_v2(const fs::path& group) {
  std::ifstream file(group / "cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period && quota > 0 && period > 0 ? quota / period : kNoLimit;
}

/// cgroup v1 has one file each, with -1 for no quota.
double quota_v1(const fs::path& group) {
  std::ifstream quota_file(group / "cpu.cfs_quota_us"), period_file(group / "cpu.cfs_period_us");
  double quota = 0, period = 0;
  return quota_file >> quota && period_file >> period && quota > 0 && period > 0 ? quota / period : kNoLimit;
}

/// The smallest quota of a group and its ancestors. A container may see its own group as the root, whatever its path says.
double min_quota(const fs::path& mount, const std::string& group, double (*quota)(const fs::path&)) {
  double min = quota(mount);
  fs::path path = mount;
  for (const auto& part : fs::path(group).relative_path()) {
    path /= part;
    min = std::min(min, quota(path));
  }
  return min;
}

}  // namespace

double cgroup_quota(const fs::path& membership, const fs::path& mount) {
  double min = kNoLimit;
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {  // HIERARCHY:CONTROLLERS:PATH
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (controllers.empty()) {
      for (const auto& root : {mount, mount / "unified"}) min = std::min(min, min_quota(root, group, quota_v2));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      for (const auto& root : {mount / controllers, mount / "cpu"}) min = std::min(min, min_quota(root, group, quota_v1));
    }
  }
  return min;
}

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
  const double count = std::min(std::ceil(cgroup_quota()), static_cast<double>(cores.size()));
  return std::max(1, static_cast<int>(count));
}

int default_threads(int processes) {
  // OpenMP allows a list, one number per nesting level; only the first level is used.
  const char* const given = std::getenv("OMP_NUM_THREADS");
  const long threads = given != nullptr ? std::strtol(given, nullptr, 10) : 0;
  return threads > 0 && threads <= 4096 ? static_cast<int>(threads) : std::max(usable_physical_cores() / processes, 1);
}

}  // namespace pgolf
