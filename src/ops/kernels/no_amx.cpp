// In place of amx/ on other processors: amx_usable() is false there, so nothing here is ever called.
#include "amx/gemm.h"
#include "amx/newton_schulz.h"
#include "attention.h"

namespace pgolf::ops {

const AttentionKernels<Bf16>& amx_attention_kernels() {
  __builtin_trap();
}

namespace amx {

const Packing<Bf16> packing = {};
const Packing<float> packing_rounded = {}, packing_in_parts = {};

void multiply(const Term*, int64_t, int64_t, int64_t, const Output&) {
  __builtin_trap();
}
double nesterov(const float*, float*, float, Bf16*, int64_t) {
  __builtin_trap();
}
void scale(Bf16*, float, int64_t) {
  __builtin_trap();
}
void add_update(float*, const Bf16*, float, float, int64_t) {
  __builtin_trap();
}
int64_t newton_schulz_scratch(int64_t, int64_t) {
  __builtin_trap();
}
void newton_schulz(Bf16*, int64_t, int64_t, int, Bf16*) {
  __builtin_trap();
}

}  // namespace amx
}  // namespace pgolf::ops
