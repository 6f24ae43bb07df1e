#include "pgolf/ops/mlp.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include "fast_ops.h"

namespace pgolf::ops {

at::Tensor relu_squared(const at::Tensor& x, OpsPath path) {
  RECORD_USER_SCOPE("relu_squared");
  if (path == OpsPath::fast) {
    if (auto y = fast::relu_squared(x); y.defined()) return y;
  }
  return at::relu(x).square();
}

}  // namespace pgolf::ops
