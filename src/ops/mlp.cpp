#include "pgolf/ops/mlp.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include "fast.h"

namespace pgolf::ops {

at::Tensor leaky_squared(const at::Tensor& x, double slope, OpsPath path) {
  RECORD_USER_SCOPE("leaky_squared");
  if (path == OpsPath::fast) {
    if (auto y = fast::leaky_squared(x, slope); y.defined()) return y;
  }
  return (slope == 0 ? at::relu(x) : at::leaky_relu(x, slope)).square();
}

at::Tensor mlp_activation(const at::Tensor& x, MlpKind kind, double slope, OpsPath path) {
  switch (kind) {
    case MlpKind::relu2:
    case MlpKind::leaky_relu2:
      return leaky_squared(x, slope, path);
    case MlpKind::relu3:
      return at::relu(x) * leaky_squared(x, 0, path);
    case MlpKind::leaky_relu:
      return at::leaky_relu(x, slope);
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
