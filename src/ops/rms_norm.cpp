#include "pgolf/ops/rms_norm.h"

#include <torch/types.h>

#include "cpu_ops.h"

namespace pgolf::ops {

at::Tensor rms_norm(const at::Tensor& x, OpsPath path) {
  if (path == OpsPath::fast) {
    if (auto y = cpu::rms_norm(x); y.defined()) return y;
  }
  return at::rms_norm(x, {x.size(-1)});
}

}  // namespace pgolf::ops
