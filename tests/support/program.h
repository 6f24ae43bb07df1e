// The project's programs as processes: arguments and environment in, exit code and output back.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <map>
#include <thread>

#include "support/files.h"

namespace pgolf::testing {

using Variables = std::map<std::string, std::string>;

struct ProgramResult {
  int code = 0;  ///< exit code, or minus the signal that ended the process
  std::string out, err;
};

/// A running program. Its environment holds what is given and next to nothing else.
class Program {
 public:
  Program(const std::string& name, const std::vector<std::string>& arguments, const Variables& environment = {}) {
    std::vector<std::string> words{(fs::path(PGOLF_BIN_DIR) / name).string()}, variables{"OMP_NUM_THREADS=1"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    for (const char* inherited : {"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PGOLF_CPU_LEVEL"}) {
      if (const char* value = std::getenv(inherited); value != nullptr && !environment.contains(inherited))
        variables.push_back(std::string(inherited) + "=" + value);
    }
    for (const auto& [key, value] : environment) variables.push_back(key + "=" + value);
    const auto pointers = [](std::vector<std::string>& texts) {
      std::vector<char*> out;
      for (auto& text : texts) out.push_back(text.data());
      out.push_back(nullptr);
      return out;
    };
    const auto argv = pointers(words), envp = pointers(variables);
    const std::string out = out_file().string(), err = err_file().string();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
      ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
      ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
      ::execve(argv[0], argv.data(), envp.data());
      ::_exit(127);
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  void signal(int number) const { ::kill(pid_, number); }

  /// Waits until condition holds. False if the program ended, or hung, before that.
  bool wait_for(const std::function<bool()>& condition) {
    for (const auto deadline = Clock::now() + kPatience; Clock::now() < deadline; pause()) {
      if (condition()) return true;
      if (ended()) return condition();
    }
    return false;
  }

  ProgramResult wait() {
    for (const auto deadline = Clock::now() + kPatience; !ended(); pause()) {
      if (Clock::now() >= deadline) {
        ADD_FAILURE() << "the program hangs";
        signal(SIGKILL);
      }
    }
    const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
    return {code, read_text(out_file()), read_text(err_file())};
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kPatience{180};

  static void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }
  fs::path out_file() const { return folder_ / "out"; }
  fs::path err_file() const { return folder_ / "err"; }
  bool ended() {
    if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
    return pid_ < 0;
  }

  TempFolder folder_;
  pid_t pid_ = -1;
  int status_ = 0;
};

inline ProgramResult run_program(const std::string& name, const std::vector<std::string>& arguments,
                                 const Variables& environment = {}) {
  return Program(name, arguments, environment).wait();
}

}  // namespace pgolf::testing
