#include "pgolf/base/error.h"

#include <cstdio>
#include <new>
#include <string_view>

#include "pgolf/base/progress.h"
#include "pgolf/base/text.h"

namespace pgolf {

Error::Error(ExitCode code, const std::string& what, std::string hint)
    : std::runtime_error(what), code_(code), hint_(std::move(hint)) {}

int run_main(const std::function<ExitCode()>& body) {
  const auto report = [](const char* what, const std::string& hint) {
    Progress::clear_line();
    std::fprintf(stderr, "error: %s\n", what);
    if (!hint.empty()) std::fprintf(stderr, "  %s\n", hint.c_str());
  };
  try {
    return static_cast<int>(body());
  } catch (const Error& e) {
    report(printable(e.what(), std::string::npos).c_str(), e.hint());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    // LibTorch's allocators throw exceptions of their own, one text on the host and one on devices.
    const std::string_view what = e.what();
    const bool memory = dynamic_cast<const std::bad_alloc*>(&e) != nullptr || what.find("not enough memory") != what.npos ||
                        what.find("out of memory") != what.npos;
    if (memory) {
      report("out of memory", "a smaller TRAIN_BATCH_TOKENS or VAL_BATCH_SIZE needs less");
      return static_cast<int>(ExitCode::unavailable);
    }
    report(e.what(), "this is a mistake in the program; please report it with the command line");
    return static_cast<int>(ExitCode::internal);
  }
}

}  // namespace pgolf
