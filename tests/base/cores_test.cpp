#include "pgolf/base/cores.h"

#include <cmath>
#include <cstdlib>

#include "support/files.h"

namespace pgolf::testing {
namespace {

/// A cgroup file system with a process in one of the groups.
class CgroupTest : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& content) {
    const fs::path path = folder_ / name;
    fs::create_directories(path.parent_path());
    write_file(path, content);
  }
  double quota(const std::string& membership) {
    put("membership", membership);
    return cgroup_quota(folder_ / "membership", folder_ / "cgroup");
  }

  TempFolder folder_;
};

TEST_F(CgroupTest, NoLimitWithoutFiles) {
  EXPECT_TRUE(std::isinf(quota("0::/\n")));
  EXPECT_TRUE(std::isinf(cgroup_quota(folder_ / "nothing", folder_ / "nowhere")));
}

TEST_F(CgroupTest, VersionTwoTakesTheMinimumOfAllAncestors) {
  put("cgroup/cpu.max", "max 100000\n");
  put("cgroup/a/cpu.max", "150000 100000\n");
  put("cgroup/a/b/cpu.max", "400000 100000\n");
  EXPECT_DOUBLE_EQ(quota("0::/a/b\n"), 1.5);
  EXPECT_DOUBLE_EQ(quota("0::/a\n"), 1.5);
  EXPECT_TRUE(std::isinf(quota("0::/other\n")));
}

TEST_F(CgroupTest, InAContainerTheRootIsItsOwnGroup) {
  put("cgroup/cpu.max", "50000 100000\n");
  EXPECT_DOUBLE_EQ(quota("0::/../../somewhere/else\n"), 0.5);
}

TEST_F(CgroupTest, VersionOne) {
  put("cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  put("cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  put("cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
  put("cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(quota("5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n"), 3);
  EXPECT_TRUE(std::isinf(quota("4:cpuset:/job\n")));
}

TEST(Cores, TheUsersThreadCountWins) {
  const char* const before = std::getenv("OMP_NUM_THREADS");
  const std::string saved = before != nullptr ? before : "";
  const auto threads_with = [](const char* value) {
    ::setenv("OMP_NUM_THREADS", value, 1);
    return default_threads();
  };
  EXPECT_EQ(threads_with("3"), 3);
  EXPECT_EQ(threads_with("5,2"), 5);
  for (const char* const nonsense : {"", "0", "-2", "many"})
    EXPECT_EQ(threads_with(nonsense), usable_physical_cores()) << nonsense;
  before != nullptr ? ::setenv("OMP_NUM_THREADS", saved.c_str(), 1) : ::unsetenv("OMP_NUM_THREADS");
  EXPECT_GE(usable_physical_cores(), 1);
}

}  // namespace
}  // namespace pgolf::testing
