// The libFuzzer program (CMake option PGOLF_FUZZ, with Clang): PGOLF_FUZZ_TARGET names the reader; with PGOLF_FUZZ_SEEDS its
// seeds are written to that folder and the program ends.
#include <cstdio>
#include <cstdlib>

#include "targets.h"

namespace {

const pgolf::fuzz::Target* target = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* const name = std::getenv("PGOLF_FUZZ_TARGET");
  target = name != nullptr ? pgolf::fuzz::find_target(name) : nullptr;
  if (target == nullptr) {
    std::fprintf(stderr, "PGOLF_FUZZ_TARGET must be one of:");
    for (const auto& known : pgolf::fuzz::targets()) std::fprintf(stderr, " %s", known.name);
    std::fprintf(stderr, "\n");
    std::exit(2);
  }
  if (const char* const folder = std::getenv("PGOLF_FUZZ_SEEDS")) {
    int number = 0;
    for (const auto& seed : target->seeds())
      pgolf::write_atomic(std::filesystem::path(folder) / ("seed_" + std::to_string(number++)), seed);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  target->read({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
