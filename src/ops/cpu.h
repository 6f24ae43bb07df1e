// Operations whose OpsPath::fast is for CPU tensors only; otherwise as in fast.h.
#pragma once

#include <vector>

#include "fast.h"
#include "pgolf/ops/muon.h"

namespace pgolf::ops::cpu {

using namespace fast;  // its helpers

inline bool covered(const at::Tensor& x) {
  return x.is_cpu() && fast::covered(x);
}

bool covers_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
/// tiles false: bfloat16 is computed in float32, as on a processor without AMX.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window = 0,
                            bool tiles = amx_usable());

/// Returns the matrices that are not covered, unchanged.
std::vector<MuonMatrix> muon_update_(const std::vector<MuonMatrix>& matrices, const MuonStep& step);

}  // namespace pgolf::ops::cpu
