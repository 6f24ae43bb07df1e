#include "pgolf/ops/mlp.h"

#include <torch/types.h>

namespace pgolf::ops {

at::Tensor relu_squared(const at::Tensor& x, OpsPath) { return at::relu(x).square(); }

}  // namespace pgolf::ops
