// Environment variables that the programs set for their libraries (train/relaunch.cpp). OMP_DISPLAY_ENV makes LibTorch's OpenMP
// library print its settings.
#include "pgolf/base/cpu_level.h"
#include "support/program.h"

namespace pgolf::testing {
namespace {

std::string openmp_settings(const char* program, Variables environment = {}) {
  environment["OMP_DISPLAY_ENV"] = "verbose";
  const auto result = run_program(program, {"--help"}, environment);
  EXPECT_EQ(result.code, 0) << result.err;
  return result.err;
}

TEST(Relaunch, OpenMpWaitsBriefly) {
  for (const char* const program : {"train_gpt", "eval_gpt"}) {
    EXPECT_NE(openmp_settings(program).find("GOMP_SPINCOUNT = '1000'"), std::string::npos) << program;
  }
}

TEST(Relaunch, TheUsersWaitPolicyWins) {
  EXPECT_NE(openmp_settings("train_gpt", {{"GOMP_SPINCOUNT", "77"}}).find("GOMP_SPINCOUNT = '77'"), std::string::npos);
  const auto passive = openmp_settings("train_gpt", {{"OMP_WAIT_POLICY", "PASSIVE"}});
  EXPECT_NE(passive.find("OMP_WAIT_POLICY = 'PASSIVE'"), std::string::npos);
  EXPECT_EQ(passive.find("GOMP_SPINCOUNT = '1000'"), std::string::npos);
}

TEST(Relaunch, TheProcessKeepsItsName) {
  std::string name;
  std::getline(std::ifstream("/proc/self/comm") >> std::ws, name);
  EXPECT_EQ(name, "test_train") << "executed again, as every program that uses LibTorch";
}

TEST(Relaunch, AMisspelledLevelIsAnError) {
  const auto result = run_program("train_gpt", {"--dry-run"}, {{kCpuLevelVariable, "avx3"}});
  EXPECT_EQ(result.code, static_cast<int>(ExitCode::usage));
  EXPECT_NE(result.err.find("PGOLF_CPU_LEVEL=avx3"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("portable, avx2"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace pgolf::testing
