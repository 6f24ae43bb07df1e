// The table of an instruction set: compiled once for each, with PGOLF_ISA naming it (src/CMakeLists.txt), under the rules of
// lanes.h.
#include "cross_entropy.h"
#include "exclusive.h"
#include "mlp.h"
#include "residual.h"
#include "rms_norm.h"
#include "rope.h"

namespace pgolf::ops {
namespace {

template <class T>
constexpr Kernels<T> all_kernels() {
  return {rms_norm<T>,      rms_norm_backward<T>,      norm_rotate<T>,           norm_rotate_backward<T>,
          exclude_value<T>, exclude_value_backward<T>, leaky_squared<T>,         leaky_squared_backward<T>,
          swiglu<T>,        swiglu_backward<T>,        residual_mix<T>,          residual_mix_backward<T>,
          scaled_add<T>,    scaled_add_backward<T>,    softcap_cross_entropy<T>, scale<T>};
}

}  // namespace

namespace PGOLF_ISA {
extern const Kernels<float> float_kernels;
extern const Kernels<Bf16> bfloat16_kernels;
constexpr Kernels<float> float_kernels = all_kernels<float>();
constexpr Kernels<Bf16> bfloat16_kernels = all_kernels<Bf16>();
}  // namespace PGOLF_ISA

}  // namespace pgolf::ops
