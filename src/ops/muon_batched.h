// muon_update_ with all matrices of one shape in one batch, for devices where a launch costs more than a small product.
#pragma once

#include "pgolf/ops/muon.h"

namespace pgolf::ops {

/// The norms of x's rows, at least 1e-7: [R, C] -> [R, 1].
at::Tensor row_norms(const at::Tensor& x);

/// Any device. A matrix and the transpose of another count as one shape. Differs from the reference by rounding b A + c A^2
/// and a X + B X once each.
void batched_muon_update_(const std::vector<MuonMatrix>& matrices, const MuonStep& step);

}  // namespace pgolf::ops
