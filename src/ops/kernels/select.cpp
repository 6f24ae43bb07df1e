#include "attention.h"
#include "kernels.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pgolf::ops {

// The tables that the files in isa/ define, once per instruction set.
#define PGOLF_DECLARE(isa)                                      \
  namespace isa {                                               \
  extern const Kernels<float> float_kernels;                    \
  extern const Kernels<Bf16> bfloat16_kernels;                  \
  extern const AttentionKernels<float> float_attention_kernels; \
  }
PGOLF_DECLARE(baseline)
#ifdef __x86_64__
PGOLF_DECLARE(avx2)
PGOLF_DECLARE(avx512)
#endif
#undef PGOLF_DECLARE

Isa best_isa() {
#ifdef __x86_64__
  // Exactly the features that src/CMakeLists.txt compiles for.
  static const Isa best = [] {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::baseline;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return avx512 ? Isa::avx512 : Isa::avx2;
  }();
  return best;
#else
  return Isa::baseline;
#endif
}

bool amx_usable() {
#if defined(__x86_64__) && defined(__linux__)
  static const bool usable = [] {
    if (best_isa() != Isa::avx512) return false;
    unsigned a = 0, b = 0, c = 0, d = 0;
    // CPUID leaf 7: AMX-BF16 and AMX-TILE in EDX; AVX512_BF16 in EAX of subleaf 1.
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d >> 22 & 1u) == 0 || (d >> 24 & 1u) == 0) return false;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a >> 5 & 1u) == 0) return false;
    // Linux enlarges the thread state for tiles only on request (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), for the process.
    constexpr long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return usable;
#else
  return false;
#endif
}

template <>
const Kernels<float>& cpu_kernels(Isa isa) {
#ifdef __x86_64__
  if (isa == Isa::avx512) return avx512::float_kernels;
  if (isa == Isa::avx2) return avx2::float_kernels;
#endif
  static_cast<void>(isa);
  return baseline::float_kernels;
}

template <>
const Kernels<Bf16>& cpu_kernels(Isa isa) {
#ifdef __x86_64__
  if (isa == Isa::avx512) return avx512::bfloat16_kernels;
  if (isa == Isa::avx2) return avx2::bfloat16_kernels;
#endif
  static_cast<void>(isa);
  return baseline::bfloat16_kernels;
}

const AttentionKernels<float>& attention_kernels(Isa isa) {
#ifdef __x86_64__
  if (isa == Isa::avx512) return avx512::float_attention_kernels;
  if (isa == Isa::avx2) return avx2::float_attention_kernels;
#endif
  static_cast<void>(isa);
  return baseline::float_attention_kernels;
}

}  // namespace pgolf::ops
