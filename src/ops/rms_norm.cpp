#include "pgolf/ops/rms_norm.h"

#include <torch/types.h>

namespace pgolf::ops {

at::Tensor rms_norm(const at::Tensor& x, OpsPath) { return at::rms_norm(x, {x.size(-1)}); }

}  // namespace pgolf::ops
