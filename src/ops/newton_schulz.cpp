#include "pgolf/ops/newton_schulz.h"

#include <torch/types.h>

#include "kernels/newton_schulz_coefficients.h"

namespace pgolf::ops {

at::Tensor newton_schulz(const at::Tensor& gradient, int steps, at::ScalarType dtype) {
  constexpr double a = NewtonSchulzCoefficients::a, b = NewtonSchulzCoefficients::b, c = NewtonSchulzCoefficients::c;
  at::Tensor x = gradient.to(dtype, /*non_blocking=*/false, /*copy=*/true);
  x.div_(x.norm() + 1e-7);
  const bool transposed = x.size(0) > x.size(1);
  if (transposed) x = x.t();
  for (int i = 0; i < steps; ++i) {
    const auto product = at::mm(x, x.t());
    const auto polynomial = b * product + at::mm(c * product, product);
    x = a * x + at::mm(polynomial, x);
  }
  return transposed ? x.t() : x;
}

}  // namespace pgolf::ops
