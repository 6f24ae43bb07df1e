#include "pgolf/base/error.h"

#include <cstdio>
#include <new>
#include <string_view>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/base/text.h"

namespace pgolf {

Error::Error(ExitCode code, const std::string& what, std::string hint)
    : std::runtime_error(what), code_(code), hint_(std::move(hint)) {}

Error as_error(const std::exception& e) {
  if (const auto* error = dynamic_cast<const Error*>(&e)) return *error;
  // LibTorch's allocators throw their own exceptions, with different texts on the host and on devices.
  const std::string_view what = e.what();
  const bool memory = dynamic_cast<const std::bad_alloc*>(&e) != nullptr || what.find("not enough memory") != what.npos ||
                      what.find("out of memory") != what.npos;
  if (memory) return {ExitCode::unavailable, "out of memory", "reduce TRAIN_BATCH_TOKENS or VAL_BATCH_SIZE"};
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

int run_main(const std::function<ExitCode()>& body) {
  try {
    return static_cast<int>(body());
  } catch (const std::exception& e) {
    const Error error = as_error(e);
    print_error(error);
    return static_cast<int>(error.code());
  }
}

}  // namespace pgolf
