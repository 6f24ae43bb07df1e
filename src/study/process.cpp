#include "pgolf/study/process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

/// Calls exec, or reports errno through the pipe. Uses only async-signal-safe functions, as required after fork.
[[noreturn]] void exec_child(char* const* argv, char* const* envp, int log, int report, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent ended before the prctl
  ::setpgid(0, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execve(argv[0], argv, envp);
  const int error = errno;
  [[maybe_unused]] const auto written = ::write(report, &error, sizeof error);
  ::_exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (auto& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

pid_t start_process(const std::vector<std::string>& words, const std::vector<std::pair<std::string, std::string>>& variables,
                    const std::filesystem::path& log) {
  std::vector<std::string> arguments = words, environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const bool replaced = std::any_of(variables.begin(), variables.end(),
                                      [&](const auto& variable) { return text.starts_with(variable.first + "="); });
    if (!replaced) environment.emplace_back(text);
  }
  for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
  const auto argv = pointers(arguments), envp = pointers(environment);

  const int log_fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log_fd < 0) throw Error(ExitCode::io, format("cannot write %s: %s", log.c_str(), std::strerror(errno)));
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0)
    throw Error(ExitCode::unavailable, format("cannot create a pipe: %s", std::strerror(errno)));
  const pid_t parent = ::getpid(), child = ::fork();
  if (child == 0) exec_child(argv.data(), envp.data(), log_fd, report[1], parent);
  const int fork_error = errno;
  ::close(log_fd);
  ::close(report[1]);
  int error = 0;
  const bool failed = child > 0 && ::read(report[0], &error, sizeof error) == sizeof error;
  ::close(report[0]);
  if (child < 0) throw Error(ExitCode::unavailable, format("cannot start a process: %s", std::strerror(fork_error)));
  if (failed) {
    ::waitpid(child, nullptr, 0);
    throw Error(ExitCode::unavailable, format("cannot run %s: %s", words[0].c_str(), std::strerror(error)));
  }
  return child;
}

}  // namespace pgolf
