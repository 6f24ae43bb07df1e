#include "pgolf/ops/muon.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "cpu.h"
#include "muon_batched.h"
#include "pgolf/ops/newton_schulz.h"

namespace pgolf::ops {

at::Tensor row_norms(const at::Tensor& x) {
  return at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, /*keepdim=*/true).clamp_min_(1e-7);
}

void muon_update_(const std::vector<MuonMatrix>& matrices, const MuonStep& step, OpsPath path) {
  RECORD_USER_SCOPE("muon_update_");
  at::NoGradGuard no_grad;
  if (path == OpsPath::fast) {
    if (!matrices.empty() && matrices[0].parameter.is_cuda()) return batched_muon_update_(matrices, step);
  }
  const auto by_definition = path == OpsPath::fast ? cpu::muon_update_(matrices, step) : matrices;
  for (const auto& [parameter, gradient, momentum_buffer] : by_definition) {
    momentum_buffer.mul_(step.momentum).add_(gradient);
    auto direction = gradient.add(momentum_buffer, step.momentum);
    if (step.normalize_rows) direction.div_(row_norms(direction));
    auto update = newton_schulz(direction, step.backend_steps, step.dtype);
    const double rows_per_column = static_cast<double>(update.size(0)) / static_cast<double>(update.size(1));
    // Not mul_: LibTorch's in-place product with a number rounds the number to bfloat16 first.
    update = update * std::sqrt(std::max(1.0, rows_per_column));
    if (step.weight_decay != 0) parameter.mul_(step.keep());
    // Contiguous, although a tall matrix comes out transposed: only then the addition fuses like upstream's.
    parameter.add_(update.to(parameter.scalar_type()).contiguous(), -step.lr);
  }
}

}  // namespace pgolf::ops
