// The exception type for everything a user can cause or fix, and the exit codes of all programs.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace pgolf {

/// Exit codes shared by every program of this project. Documented in docs/exit-codes.md.
enum class ExitCode : int {
  ok = 0,
  internal = 1,       ///< a bug (an uncaught exception)
  usage = 2,          ///< bad flag, environment variable, config file or combination of values
  bad_input = 3,      ///< an input is missing, damaged or of the wrong kind, or cannot be opened or listed
  over_budget = 4,    ///< the artifact was written but exceeds BUDGET_BYTES
  non_finite = 5,     ///< loss or gradient became NaN or infinite; weights of the step before are kept. Or weights for GPTQ
  io = 6,             ///< writing failed (disk full, no permission), or reading what was open already
  unavailable = 7,    ///< this machine or build lacks something (a GPU, enough memory)
  peer_lost = 8,      ///< another process of the job ended or no longer answers
  interrupted = 130,  ///< SIGINT, SIGTERM or SIGHUP; what was not written yet is saved
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

/// e as an Error: e itself if it is one, unavailable if out of memory, otherwise internal (a bug).
Error as_error(const std::exception& e);

/// "error: what" plus "  hint" on standard error, after the process's rank in a job of several.
void print_error(const Error& error);

/// Ends the process, with what was printed written out, but without destroying static objects: LibTorch's take 0.2 s. Under the
/// address sanitizer, and with a tool that is preloaded or injected, it returns the code, so that main() ends the process.
int end_program(int code);

/// Runs a program's body; prints any exception and turns it into the exit code.
int run_main(const std::function<ExitCode()>& body);

}  // namespace pgolf
