#include "muon_batched.h"

#include <torch/types.h>

#include <cmath>
#include <map>

#include "kernels/newton_schulz_coefficients.h"

namespace pgolf::ops {
namespace {

/// x [N, R, C], R <= C, of the dtype to compute in; overwritten.
at::Tensor orthogonalize(at::Tensor x, int steps) {
  constexpr double a = NewtonSchulzCoefficients::a, b = NewtonSchulzCoefficients::b, c = NewtonSchulzCoefficients::c;
  x.div_(at::linalg_vector_norm(x, 2, at::IntArrayRef{1, 2}, /*keepdim=*/true) + 1e-7);
  for (int i = 0; i < steps; ++i) {
    const auto product = at::bmm(x, x.transpose(1, 2));
    const auto polynomial = at::baddbmm(product, product, product, /*beta=*/b, /*alpha=*/c);
    x = at::baddbmm(x, polynomial, x, /*beta=*/a, /*alpha=*/1);
  }
  return x;
}

}  // namespace

void batched_muon_update_(const std::vector<MuonMatrix>& matrices, const MuonStep& step) {
  if (matrices.empty()) return;
  std::vector<at::Tensor> parameters, gradients, buffers;
  for (const auto& matrix : matrices) {
    parameters.push_back(matrix.parameter);
    gradients.push_back(matrix.gradient);
    buffers.push_back(matrix.momentum_buffer);
  }
  const auto scalar = [&](const at::Tensor& on_device, double value) {
    return on_device.defined() ? on_device : at::full({}, value, parameters[0].options().requires_grad(false));
  };
  const auto momentum = scalar(step.device_momentum, step.momentum);
  at::_foreach_mul_(buffers, momentum);
  at::_foreach_add_(buffers, gradients);
  auto updates = at::_foreach_mul(buffers, momentum);
  at::_foreach_add_(updates, gradients);
  if (step.normalize_rows) {
    for (auto& update : updates) update.div_(row_norms(update));
  }

  std::map<std::pair<int64_t, int64_t>, std::vector<size_t>> shapes;  // rows <= columns
  for (size_t i = 0; i < matrices.size(); ++i) {
    const int64_t rows = parameters[i].size(0), columns = parameters[i].size(1);
    shapes[std::minmax(rows, columns)].push_back(i);
  }
  for (const auto& [shape, members] : shapes) {
    const auto tall = [&](size_t i) { return parameters[i].size(0) > parameters[i].size(1); };
    std::vector<at::Tensor> stack;
    for (const size_t i : members) stack.push_back(tall(i) ? updates[i].t() : updates[i]);
    const auto orthogonal = orthogonalize(at::stack(stack).to(step.dtype), step.backend_steps);
    const double ratio = static_cast<double>(shape.second) / static_cast<double>(shape.first);
    for (size_t n = 0; n < members.size(); ++n) {
      const size_t i = members[n];
      const auto update = orthogonal[static_cast<int64_t>(n)];
      updates[i] = (tall(i) ? update.t() * std::sqrt(ratio) : update).to(parameters[i].scalar_type()).contiguous();
    }
  }
  if (step.weight_decay != 0) at::_foreach_mul_(parameters, scalar(step.device_keep, step.keep()));
  at::_foreach_mul_(updates, scalar(step.device_lr, step.lr));
  at::_foreach_sub_(parameters, updates);
}

}  // namespace pgolf::ops
