#include "kernels.h"

namespace pgolf::ops {

// The tables that kernels.cpp defines, once per instruction set.
#define PGOLF_DECLARE(isa)                     \
  namespace isa {                              \
  extern const Kernels<float> float_kernels;   \
  extern const Kernels<Bf16> bfloat16_kernels; \
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

}  // namespace pgolf::ops
