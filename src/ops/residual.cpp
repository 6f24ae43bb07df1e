#include "pgolf/ops/residual.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include "fast.h"
#include "pgolf/ops/rms_norm.h"

namespace pgolf::ops {

at::Tensor residual_mix(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix, OpsPath path) {
  RECORD_USER_SCOPE("residual_mix");
  if (path == OpsPath::fast) {
    if (auto y = fast::residual_mix(x, x0, mix); y.defined()) return y;
  }
  const auto rows = mix.to(x.scalar_type());
  // One statement each: C++ leaves the order of operands open, and with it the order in which autograd would add up
  // x0's gradients, that is, their last bits.
  const auto mixed = rows[0] * x;
  return mixed + rows[1] * x0;
}

at::Tensor scaled_add(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch, OpsPath path) {
  RECORD_USER_SCOPE("scaled_add");
  if (path == OpsPath::fast) {
    if (auto y = fast::scaled_add(x, scale, branch); y.defined()) return y;
  }
  return x + scale.to(x.scalar_type()) * branch;
}

at::Tensor gated_skip(const at::Tensor& x, const at::Tensor& skip, const at::Tensor& weight, const at::Tensor& gate,
                      OpsPath path) {
  if (path == OpsPath::fast) {
    const auto kept = gate.sigmoid();
    return residual_mix(x, skip, at::stack({kept, (1 - kept) * weight}), path);
  }
  RECORD_USER_SCOPE("gated_skip");
  const auto scaled = weight.to(x.scalar_type()) * skip;
  return at::lerp(scaled, x, gate.to(x.scalar_type()).sigmoid());
}

Normed residual_mix_norm(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& mix, OpsPath path, double norm_factor) {
  RECORD_USER_SCOPE("residual_mix_norm");
  if (path == OpsPath::fast) {
    if (auto outputs = fast::residual_mix_norm(x, x0, mix, norm_factor); outputs.x.defined()) return outputs;
  }
  const auto mixed = residual_mix(x, x0, mix, path);
  return {mixed, rms_norm(mixed, path, norm_factor)};
}

Normed scaled_add_norm(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& branch, OpsPath path, double norm_factor) {
  RECORD_USER_SCOPE("scaled_add_norm");
  if (path == OpsPath::fast) {
    if (auto outputs = fast::scaled_add_norm(x, scale, branch, norm_factor); outputs.x.defined()) return outputs;
  }
  const auto sum = scaled_add(x, scale, branch, path);
  return {sum, rms_norm(sum, path, norm_factor)};
}

}  // namespace pgolf::ops
