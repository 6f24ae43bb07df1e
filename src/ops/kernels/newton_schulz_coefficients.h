// The quintic of Muon's Newton-Schulz iteration; include/pgolf/ops/newton_schulz.h has the formula. Also used by the kernels.
#pragma once

namespace pgolf::ops {

struct NewtonSchulzCoefficients {
  static constexpr double a = 3.4445, b = -4.7750, c = 2.0315;
};

}  // namespace pgolf::ops
