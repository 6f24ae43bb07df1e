#include <initializer_list>

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
PGOLF_DECLARE(avx512bf16)
#endif
#undef PGOLF_DECLARE

Isa best_isa() {
#ifdef __x86_64__
  // Exactly the features that src/CMakeLists.txt compiles for.
  static const Isa best = [] {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::baseline;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (!avx512) return Isa::avx2;
    return __builtin_cpu_supports("avx512bf16") ? Isa::avx512bf16 : Isa::avx512;
  }();
  return best;
#else
  return Isa::baseline;
#endif
}

bool amx_usable() {
#if defined(__x86_64__) && defined(__linux__)
  static const bool usable = [] {
    if (best_isa() != Isa::avx512bf16) return false;
    unsigned a = 0, b = 0, c = 0, d = 0;
    // CPUID leaf 7: AMX-BF16 and AMX-TILE in EDX.
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d >> 22 & 1u) == 0 || (d >> 24 & 1u) == 0) return false;
    // Linux enlarges the thread state for tiles only on request (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), for the process.
    constexpr long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return usable;
#else
  return false;
#endif
}

namespace {

template <class Table>
const Table& table_of(Isa isa, std::initializer_list<const Table*> tables) {
  return **(tables.begin() + static_cast<int>(isa));
}

}  // namespace

// All tables of a kind, in the order of Isa.
#ifdef __x86_64__
#define PGOLF_TABLES(name) \
  { &baseline::name, &avx2::name, &avx512::name, &avx512bf16::name }
#else
#define PGOLF_TABLES(name) \
  { &baseline::name }
#endif

template <>
const Kernels<float>& cpu_kernels(Isa isa) {
  return table_of<Kernels<float>>(isa, PGOLF_TABLES(float_kernels));
}
template <>
const Kernels<Bf16>& cpu_kernels(Isa isa) {
  return table_of<Kernels<Bf16>>(isa, PGOLF_TABLES(bfloat16_kernels));
}
const AttentionKernels<float>& attention_kernels(Isa isa) {
  return table_of<AttentionKernels<float>>(isa, PGOLF_TABLES(float_attention_kernels));
}

}  // namespace pgolf::ops
