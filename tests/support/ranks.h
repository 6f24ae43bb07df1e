// Jobs of several processes: a test program starts itself again, once per rank, to play a scenario.
#pragma once

#include <arpa/inet.h>
#include <unistd.h>

#include <memory>
#include <random>

#include "pgolf/base/log.h"
#include "pgolf/dist/group.h"
#include "support/files.h"
#include "support/program.h"

namespace pgolf::testing {

using Scenario = void (*)(Group&);

/// By name, of all files of a test program.
inline std::map<std::string, Scenario>& scenarios() {
  static std::map<std::string, Scenario> all;
  return all;
}
inline bool add_scenario(const std::string& name, Scenario scenario) {
  return scenarios().emplace(name, scenario).second;
}

inline void require(bool condition, const std::string& what) {
  if (!condition) throw std::logic_error(what);
}

inline ExitCode play(const std::string& scenario) {
  Process process = Process::from_environment([](const char* name) -> const char* { return std::getenv(name); });
  if (kMicroSteps % process.world_size() != 0) process.divide_step(1);
  log::set_rank(process.rank());
  DistConfig config;
  config.timeout_seconds = 8;
  config.backend = process.world_size() == 1 ? DistBackend::gloo : DistBackend::automatic;
  Group group(process, config, at::kCPU);
  try {
    scenarios().at(scenario)(group);
  } catch (const std::exception& e) {
    group.leave(as_error(e));
  }
  group.finish();
  return ExitCode::ok;
}

/// Instead of GoogleTest's own.
inline int main_with_scenarios(int argc, char** argv) {
  if (const char* const scenario = std::getenv("SCENARIO"))
    return TempFolder::end_tests(run_main([&] { return play(scenario); }));
  ::testing::InitGoogleTest(&argc, argv);
  return TempFolder::end_tests(RUN_ALL_TESTS());
}

/// Below those that the system gives to connections: nothing but another listener can take it.
inline int free_port() {
  std::random_device random;
  for (;;) {
    const int port = 20000 + static_cast<int>(random() % 12000), fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    const bool is_free = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    if (is_free) return port;
  }
}

/// The processes of a job, playing a scenario.
class Ranks {
 public:
  Ranks(int size, const std::string& scenario, const Variables& more = {}) {
    const std::string self = fs::read_symlink("/proc/self/exe").string(), port = std::to_string(free_port());
    for (int rank = 0; rank < size; ++rank) {
      Variables variables = {{"SCENARIO", scenario},
                             {"RANK", std::to_string(rank)},
                             {"WORLD_SIZE", std::to_string(size)},
                             {"LOCAL_RANK", std::to_string(rank)},
                             {"LOCAL_WORLD_SIZE", std::to_string(size)},
                             {"MASTER_ADDR", "127.0.0.1"},
                             {"MASTER_PORT", port}};
      variables.insert(more.begin(), more.end());
      programs_.push_back(std::make_unique<Program>(self, std::vector<std::string>{}, variables));
    }
  }
  ProgramResult wait_for(int rank) { return programs_[static_cast<size_t>(rank)]->wait(); }
  std::vector<ProgramResult> wait() {
    std::vector<ProgramResult> results;
    for (const auto& program : programs_) results.push_back(program->wait());
    return results;
  }

 private:
  std::vector<std::unique_ptr<Program>> programs_;
};

}  // namespace pgolf::testing
