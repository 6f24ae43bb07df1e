#include "pgolf/ops/cross_entropy.h"

#include <torch/types.h>

namespace pgolf::ops {

at::Tensor softcap(const at::Tensor& logits, double cap) { return cap * at::tanh(logits / cap); }

at::Tensor softcap_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double cap, OpsPath) {
  return at::cross_entropy_loss(softcap(logits, cap).to(at::kFloat), targets);
}

}  // namespace pgolf::ops
