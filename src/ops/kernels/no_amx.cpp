// In place of amx/ on other processors: amx_usable() is false there, so nothing here is ever called.
#include "amx/gemm.h"
#include "attention.h"
#include "muon.h"

namespace pgolf::ops {

const AttentionKernels<Bf16>& amx_attention_kernels() {
  __builtin_trap();
}

const MuonKernels<Bf16>& amx_muon_kernels() {
  __builtin_trap();
}

namespace amx {

const Packing<Bf16> packing = {};
const Packing<float> packing_rounded = {}, packing_in_parts = {};

void multiply(const Term*, int64_t, int64_t, int64_t, const Output&) {
  __builtin_trap();
}

}  // namespace amx
}  // namespace pgolf::ops
