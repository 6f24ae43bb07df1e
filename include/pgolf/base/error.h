// One exception type for everything a user can cause or mend, and the exit codes of all programs.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace pgolf {

/// Exit codes shared by every program of this project. Documented in docs/exit-codes.md.
enum class ExitCode : int {
  ok = 0,
  internal = 1,       ///< a mistake of ours (an uncaught exception)
  usage = 2,          ///< bad flag, environment variable, config file or combination of values
  bad_input = 3,      ///< a file is missing, damaged, or not what it should be
  over_budget = 4,    ///< the artifact was written but exceeds BUDGET_BYTES
  non_finite = 5,     ///< loss or gradient became NaN or infinite; weights of the step before are kept
  io = 6,             ///< reading or writing failed (disk full, no permission)
  unavailable = 7,    ///< asked for something this machine or build does not have (a GPU, enough memory)
  interrupted = 130,  ///< SIGINT or SIGTERM; state was saved
};

/// what() is one line: what went wrong and where. hint() says what to do about it (may be empty).
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& what, std::string hint = {});

  ExitCode code() const { return code_; }
  const std::string& hint() const { return hint_; }

 private:
  ExitCode code_;
  std::string hint_;
};

/// e as an Error: itself, or what running out of memory (unavailable) or a mistake of ours (internal) comes to.
Error as_error(const std::exception& e);

/// Runs a program's body; prints any exception as "error: what" plus "  hint" on standard error and
/// turns it into the exit code.
int run_main(const std::function<ExitCode()>& body);

}  // namespace pgolf
