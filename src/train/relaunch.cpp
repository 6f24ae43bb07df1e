// What must be done after the libraries are loaded but before their constructors run. The program is executed again, to set
// environment variables that the constructors read, which at this point costs a tenth of a program's start; and a limit on
// address space that LibTorch's constructors would not survive is an error.
#include <alloca.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "pgolf/base/address_space.h"
#include "pgolf/base/cpu_level.h"

namespace pgolf {
namespace {

// Nothing here may allocate or throw: the C library's constructors have not run yet either.

/// The value of "NAME=value" if `name` is NAME, else null.
const char* value_of(const char* entry, const char* name) {
  const size_t length = std::strlen(name);
  return std::strncmp(entry, name, length) == 0 && entry[length] == '=' ? entry + length + 1 : nullptr;
}

const char* find(char* const* environment, const char* name) {
  for (; *environment != nullptr; ++environment) {
    if (const char* const value = value_of(*environment, name)) return value;
  }
  return nullptr;
}

/// By default LibTorch's OpenMP threads spin 300,000 times before they sleep, which takes milliseconds. On a busy machine that
/// takes CPU time from the thread they wait for.
constexpr const char* kShortSpin = "GOMP_SPINCOUNT=1000";

struct LibraryCap {
  CpuLevel level;
  const char* settings[3];
};
/// Settings that restrict LibTorch, oneDNN and MKL to a level.
constexpr LibraryCap kLibraryCaps[] = {
    {CpuLevel::portable, {"ATEN_CPU_CAPABILITY=default", "ONEDNN_MAX_CPU_ISA=SSE41", "MKL_ENABLE_INSTRUCTIONS=SSE4_2"}},
    {CpuLevel::avx2, {"ATEN_CPU_CAPABILITY=avx2", "ONEDNN_MAX_CPU_ISA=AVX2", "MKL_ENABLE_INSTRUCTIONS=AVX2"}},
    {CpuLevel::avx512, {"ATEN_CPU_CAPABILITY=avx512", "ONEDNN_MAX_CPU_ISA=AVX512_CORE", nullptr}},
    {CpuLevel::avx512bf16, {"ATEN_CPU_CAPABILITY=avx512", "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16", nullptr}},
};

/// Address space that LibTorch's constructors and its first threads and products take; without it they end in an abort or worse.
/// Measured by tests/memory_limits.py: 109 MiB.
constexpr size_t kLibrariesNeed = size_t{192} << 20;

void before_constructors(int, char** argv, char** environment) {
  require_address_space(kLibrariesNeed,
                        "error: the limit on address space (ulimit -v) is too low for LibTorch\n"
                        "  allow at least 4 GiB, more for large models, or limit resident memory by a cgroup instead\n");
  const char* added[4] = {};
  size_t add_count = 0;
  const auto add = [&](const char* setting) {
    char name[32] = {};
    std::memcpy(name, setting, static_cast<size_t>(std::strchr(setting, '=') - setting));
    if (find(environment, name) == nullptr) added[add_count++] = setting;
  };
  // The user's setting takes precedence.
  if (find(environment, "OMP_WAIT_POLICY") == nullptr) add(kShortSpin);
  const char* const given = find(environment, kCpuLevelVariable);
  for (const auto& cap : kLibraryCaps) {
    // The libraries would trust a level that the processor does not have.
    if (given == nullptr || std::strcmp(given, cpu_level_name(cap.level)) != 0 || processor_level() <= cap.level) continue;
    for (const char* const setting : cap.settings) {
      if (setting != nullptr) add(setting);
    }
  }
  if (add_count == 0) return;
  size_t count = 0;
  while (environment[count] != nullptr) ++count;
  auto** const whole = static_cast<char**>(alloca((count + add_count + 1) * sizeof(char*)));
  std::memcpy(whole, environment, count * sizeof(char*));
  for (size_t i = 0; i < add_count; ++i) whole[count + i] = const_cast<char*>(added[i]);
  whole[count + add_count] = nullptr;
  // By its own path, so that ps, top and pkill know it by its name.
  char path[4096];
  const auto length = ::readlink("/proc/self/exe", path, sizeof path - 1);
  if (length > 0) {
    path[length] = 0;
    ::execve(path, argv, whole);
  }
  ::execve("/proc/self/exe", argv, whole);  // a file that was moved or deleted
  // Without /proc the program continues unchanged.
}

__attribute__((section(".preinit_array"), used)) void (*const preinit)(int, char**, char**) = before_constructors;

}  // namespace
}  // namespace pgolf

/// Referenced by the linker options (src/CMakeLists.txt) so that every program links this file.
extern "C" const char pgolf_relaunch = 0;
