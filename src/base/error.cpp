#include "pgolf/base/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <new>
#include <string_view>
#include <system_error>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/base/text.h"

namespace pgolf {

Error::Error(ExitCode code, const std::string& what, std::string hint)
    : std::runtime_error(what), code_(code), hint_(std::move(hint)) {}

namespace {

constexpr const char* kOutOfMemory = "out of memory";
constexpr const char* kLessMemory =
    "allow more of it, or reduce what needs it: TRAIN_BATCH_TOKENS, VAL_BATCH_SIZE, MAX_DOCS, --threads";

bool is_out_of_memory(const std::exception& e) {
  if (dynamic_cast<const std::bad_alloc*>(&e) != nullptr) return true;
  // LibTorch's allocators throw their own exceptions, with different texts on the host and on devices; oneDNN, whose compiled
  // code needs memory too, says only this.
  const std::string_view what = e.what();
  return what.find("not enough memory") != what.npos || what.find("out of memory") != what.npos ||
         what.find("can't allocate memory") != what.npos || what == "could not create a primitive";
}

/// Of exceptions that nothing can catch: thrown in a library's thread or where none may be. Without memory, hence no allocation.
[[noreturn]] void on_terminate() {
  const bool unwinding = std::uncaught_exceptions() > 0;
  try {
    if (const auto exception = std::current_exception()) std::rethrow_exception(exception);
  } catch (const std::exception& e) {
    if (is_out_of_memory(e)) {
      std::fprintf(stderr, "error: %s\n  %s\n", kOutOfMemory, kLessMemory);
      ::_exit(static_cast<int>(ExitCode::unavailable));
    }
    const Error error = as_error(e);
    print_error(error);
    ::_exit(static_cast<int>(error.code()));
  } catch (...) {
  }
  // A library that cannot start a thread leaves those that it has started.
  std::fprintf(stderr, "error: a library ended the program%s\n",
               unwinding ? "; memory or threads may have run out\n  allow it more (ulimit -v, -u), or fewer threads" : "");
  ::_exit(static_cast<int>(unwinding ? ExitCode::unavailable : ExitCode::internal));
}

}  // namespace

Error as_error(const std::exception& e) {
  if (const auto* error = dynamic_cast<const Error*>(&e)) return *error;
  if (is_out_of_memory(e)) return {ExitCode::unavailable, kOutOfMemory, kLessMemory};
  if (const auto* error = dynamic_cast<const std::system_error*>(&e);
      error != nullptr && error->code() == std::errc::resource_unavailable_try_again)
    return {ExitCode::unavailable, "cannot start a thread: no memory for it, or too many (ulimit -u)",
            "reduce the number of threads"};
  return {ExitCode::internal, e.what(), "this is a bug; please report it with the command line"};
}

void print_error(const Error& error) {
  const bool bug = error.code() == ExitCode::internal;  // for a bug all lines help
  Progress::clear_line();
  std::fprintf(stderr, "%serror: %s\n", log::rank_prefix().c_str(),
               bug ? error.what() : printable(error.what(), std::string::npos).c_str());
  if (!error.hint().empty()) std::fprintf(stderr, "  %s\n", error.hint().c_str());
  std::fflush(nullptr);
  log::file_only(format("error: %s", error.what()));
}

int end_program(int code) {
  std::cout.flush();
  std::fflush(nullptr);
#ifndef __SANITIZE_ADDRESS__
  // Profilers and checkers that are loaded into a process write their results at its orderly end.
  const bool watched = std::getenv("LD_PRELOAD") != nullptr || std::getenv("CUDA_INJECTION64_PATH") != nullptr;
  if (!watched) ::_exit(code);
#endif
  return code;
}

int run_main(const std::function<ExitCode()>& body) {
  std::set_terminate(on_terminate);
  // A file over the size limit (ulimit -f) is an error of write(), as on a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  // Else the next file or socket to be opened would get what is printed.
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", O_RDWR);
  }
  try {
    const ExitCode code = body();
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      std::clearerr(stdout);
      if (code == ExitCode::ok) throw Error(ExitCode::io, "standard output did not take everything that was printed");
    }
    return static_cast<int>(code);
  } catch (const std::exception& e) {
    const Error error = as_error(e);
    print_error(error);
    return static_cast<int>(error.code());
  }
}

}  // namespace pgolf
