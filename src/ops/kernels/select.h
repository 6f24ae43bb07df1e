// The kernels of an instruction set level.
#pragma once

#include "attention.h"
#include "gemm.h"
#include "kernels.h"
#include "muon.h"
#include "pgolf/base/cpu_level.h"

namespace pgolf::ops {

/// T float or Bf16. level must not exceed cpu_level(); amx uses the kernels of avx512bf16, plus those in amx/.
template <class T>
const Kernels<T>& cpu_kernels(CpuLevel level = cpu_level());

/// float32, likewise.
const AttentionKernels<float>& attention_kernels(CpuLevel level = cpu_level());

/// T float or Bf16.
template <class T>
const MuonKernels<T>& muon_kernels(CpuLevel level = cpu_level());

const VectorGemm& gemm_kernels(CpuLevel level = cpu_level());

/// Whether the kernels in amx/ may be called.
inline bool amx_usable() {
  return cpu_level() == CpuLevel::amx;
}

}  // namespace pgolf::ops
