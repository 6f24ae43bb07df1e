// A factor that is usually 1.
#pragma once

#include <ATen/core/Tensor.h>

namespace pgolf::ops {

inline at::Tensor times(const at::Tensor& x, double factor) {
  return factor == 1 ? x : x * factor;
}

}  // namespace pgolf::ops
