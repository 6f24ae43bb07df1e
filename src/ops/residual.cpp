#include "pgolf/ops/residual.h"

#include <torch/types.h>

namespace pgolf::ops {

at::Tensor residual_mix(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix, OpsPath) {
  const auto rows = mix.to(x.scalar_type());
  return rows[0] * x + rows[1] * x0;
}

at::Tensor scaled_add(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch, OpsPath) {
  return x + scale.to(x.scalar_type()) * branch;
}

}  // namespace pgolf::ops
