#include "pgolf/base/cpu_level.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <string>

#include "pgolf/base/error.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pgolf {
namespace {

constexpr const char* kNames[] = {"portable", "avx2", "avx512", "avx512bf16", "amx"};  // in the order of CpuLevel

#ifdef __x86_64__
bool tiles_usable() {
#ifdef __linux__
  unsigned a = 0, b = 0, c = 0, d = 0;
  // CPUID leaf 7: AMX-BF16 and AMX-TILE in EDX.
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d >> 22 & 1u) == 0 || (d >> 24 & 1u) == 0) return false;
  // Linux grows the thread state for tiles only on request (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), for the process.
  constexpr long request_permission = 0x1023, tile_data = 18;
  return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

#endif

CpuLevel cap_from_environment() {
  const char* const given = std::getenv(kCpuLevelVariable);
  if (given == nullptr || *given == '\0') return CpuLevel::amx;
  if (const auto level = cpu_level_of(given)) return *level;
  throw Error(ExitCode::usage, std::string(kCpuLevelVariable) + "=" + given + " is not a CPU level",
              "use portable, avx2, avx512, avx512bf16 or amx, or unset it");
}

}  // namespace

/// Exactly the features that src/CMakeLists.txt compiles for.
CpuLevel processor_level() {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CpuLevel::portable;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!avx512) return CpuLevel::avx2;
  if (!__builtin_cpu_supports("avx512bf16")) return CpuLevel::avx512;
  return tiles_usable() ? CpuLevel::amx : CpuLevel::avx512bf16;
#else
  return CpuLevel::portable;
#endif
}

const char* cpu_level_name(CpuLevel level) {
  return kNames[static_cast<int>(level)];
}

std::optional<CpuLevel> cpu_level_of(std::string_view name) {
  const auto* const found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found == std::end(kNames)) return std::nullopt;
  return static_cast<CpuLevel>(found - std::begin(kNames));
}

CpuLevel cpu_level() {
  static const CpuLevel level = std::min(cap_from_environment(), processor_level());
  return level;
}

}  // namespace pgolf
