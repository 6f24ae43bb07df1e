#include "pgolf/ops/cross_entropy.h"

#include <torch/types.h>

#include "cpu_ops.h"

namespace pgolf::ops {

at::Tensor softcap(const at::Tensor& logits, double cap) {
  return cap * at::tanh(logits / cap);
}

at::Tensor softcap_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double cap, OpsPath path) {
  if (path == OpsPath::fast) {
    if (auto loss = cpu::softcap_cross_entropy(logits, targets, cap); loss.defined()) return loss;
  }
  return at::cross_entropy_loss(softcap(logits, cap).to(at::kFloat), targets);
}

}  // namespace pgolf::ops
