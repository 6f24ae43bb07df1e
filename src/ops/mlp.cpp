#include "pgolf/ops/mlp.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include "fast.h"

namespace pgolf::ops {

at::Tensor relu_squared(const at::Tensor& x, OpsPath path) {
  RECORD_USER_SCOPE("relu_squared");
  if (path == OpsPath::fast) {
    if (auto y = fast::relu_squared(x); y.defined()) return y;
  }
  return at::relu(x).square();
}

at::Tensor mlp_activation(const at::Tensor& x, MlpKind kind, double leaky_slope, OpsPath path) {
  switch (kind) {
    case MlpKind::relu2:
      return relu_squared(x, path);
    case MlpKind::relu3:
      return at::relu(x) * relu_squared(x, path);
    case MlpKind::leaky_relu:
      return at::leaky_relu(x, leaky_slope);
    case MlpKind::leaky_relu2:
      return at::leaky_relu(x, leaky_slope).square();
    case MlpKind::gelu:
      return at::gelu(x);
    case MlpKind::swiglu:
      break;
  }
  TORCH_CHECK(false, "swiglu takes two inputs");
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up, OpsPath path) {
  RECORD_USER_SCOPE("swiglu");
  if (path == OpsPath::fast) {
    if (auto y = fast::swiglu(gate, up); y.defined()) return y;
  }
  return at::silu(gate) * up;
}

}  // namespace pgolf::ops
