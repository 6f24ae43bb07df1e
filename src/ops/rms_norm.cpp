#include "pgolf/ops/rms_norm.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include "fast.h"

namespace pgolf::ops {

at::Tensor rms_norm(const at::Tensor& x, OpsPath path, double factor) {
  RECORD_USER_SCOPE("rms_norm");
  if (path == OpsPath::fast) {
    if (auto y = fast::rms_norm(x, factor); y.defined()) return y;
  }
  const auto y = at::rms_norm(x, {x.size(-1)});
  return factor == 1 ? y : y * factor;
}

at::Tensor norm_weight(const at::Tensor& normed, const at::Tensor& weight) {
  RECORD_USER_SCOPE("norm_weight");
  return normed * weight.to(normed.scalar_type());
}

}  // namespace pgolf::ops
