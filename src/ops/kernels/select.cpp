#include "select.h"

#include <algorithm>
#include <initializer_list>

namespace pgolf::ops {

// The tables that the files in simd/ define, once per instruction set.
#define PGOLF_DECLARE(isa)                                      \
  namespace isa {                                               \
  extern const Kernels<float> float_kernels;                    \
  extern const Kernels<Bf16> bfloat16_kernels;                  \
  extern const AttentionKernels<float> float_attention_kernels; \
  extern const VectorGemm gemm_kernels;                         \
  extern const MuonKernels<float> float_muon_kernels;           \
  extern const MuonKernels<Bf16> bfloat16_muon_kernels;         \
  }
PGOLF_DECLARE(portable)
#ifdef __x86_64__
PGOLF_DECLARE(avx2)
PGOLF_DECLARE(avx512)
PGOLF_DECLARE(avx512bf16)
#endif
#undef PGOLF_DECLARE

namespace {

template <class Table>
const Table& table_of(CpuLevel level, std::initializer_list<const Table*> tables) {
  const auto last = static_cast<int>(tables.size()) - 1;
  return **(tables.begin() + std::min(static_cast<int>(level), last));
}

}  // namespace

// All tables of a kind, in the order of CpuLevel.
#ifdef __x86_64__
#define PGOLF_TABLES(name) \
  { &portable::name, &avx2::name, &avx512::name, &avx512bf16::name }
#else
#define PGOLF_TABLES(name) \
  { &portable::name }
#endif

template <>
const Kernels<float>& cpu_kernels(CpuLevel level) {
  return table_of<Kernels<float>>(level, PGOLF_TABLES(float_kernels));
}
template <>
const Kernels<Bf16>& cpu_kernels(CpuLevel level) {
  return table_of<Kernels<Bf16>>(level, PGOLF_TABLES(bfloat16_kernels));
}
const AttentionKernels<float>& attention_kernels(CpuLevel level) {
  return table_of<AttentionKernels<float>>(level, PGOLF_TABLES(float_attention_kernels));
}
template <>
const MuonKernels<float>& muon_kernels(CpuLevel level) {
  return table_of<MuonKernels<float>>(level, PGOLF_TABLES(float_muon_kernels));
}
template <>
const MuonKernels<Bf16>& muon_kernels(CpuLevel level) {
  return table_of<MuonKernels<Bf16>>(level, PGOLF_TABLES(bfloat16_muon_kernels));
}
const VectorGemm& gemm_kernels(CpuLevel level) {
  return table_of<VectorGemm>(level, PGOLF_TABLES(gemm_kernels));
}

}  // namespace pgolf::ops
