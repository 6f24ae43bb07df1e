#include "pgolf/base/error.h"

#include <cstdio>
#include <new>

#include "pgolf/base/progress.h"

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
    report(e.what(), e.hint());
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    report("out of memory", "a smaller TRAIN_BATCH_TOKENS or VAL_BATCH_SIZE needs less");
    return static_cast<int>(ExitCode::io);
  } catch (const std::exception& e) {
    report(e.what(), "this is a mistake in the program; please report it with the command line");
    return static_cast<int>(ExitCode::internal);
  }
}

}  // namespace pgolf
