#include "pgolf/base/error.h"

#include <cstdio>
#include <new>
#include <string_view>

#include "pgolf/base/progress.h"
#include "pgolf/base/text.h"

namespace pgolf {

Error::Error(ExitCode code, const std::string& what, std::string hint)
    : std::runtime_error(what), code_(code), hint_(std::move(hint)) {}

Error as_error(const std::exception& e) {
  if (const auto* error = dynamic_cast<const Error*>(&e)) return *error;
  // LibTorch's allocators throw exceptions of their own, one text on the host and one on devices.
  const std::string_view what = e.what();
  const bool memory = dynamic_cast<const std::bad_alloc*>(&e) != nullptr || what.find("not enough memory") != what.npos ||
                      what.find("out of memory") != what.npos;
  if (memory) return {ExitCode::unavailable, "out of memory", "a smaller TRAIN_BATCH_TOKENS or VAL_BATCH_SIZE needs less"};
  return {ExitCode::internal, e.what(), "this is a mistake in the program; please report it with the command line"};
}

int run_main(const std::function<ExitCode()>& body) {
  try {
    return static_cast<int>(body());
  } catch (const std::exception& e) {
    const Error error = as_error(e);
    const bool ours = error.code() == ExitCode::internal;  // then every line of it helps
    Progress::clear_line();
    std::fprintf(stderr, "error: %s\n", ours ? error.what() : printable(error.what(), std::string::npos).c_str());
    if (!error.hint().empty()) std::fprintf(stderr, "  %s\n", error.hint().c_str());
    return static_cast<int>(error.code());
  }
}

}  // namespace pgolf
