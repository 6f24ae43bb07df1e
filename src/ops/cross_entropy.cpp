#include "pgolf/ops/cross_entropy.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include "fast.h"

namespace pgolf::ops {

at::Tensor softcap(const at::Tensor& logits, double cap) {
  return cap > 0 ? cap * at::tanh(logits / cap) : logits;
}

at::Tensor softcap_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double cap, OpsPath path, double gradient) {
  RECORD_USER_SCOPE("softcap_cross_entropy");
  if (path == OpsPath::fast) {
    if (auto loss = fast::softcap_cross_entropy(logits, targets, cap, gradient); loss.defined()) return loss;
  }
  return at::cross_entropy_loss(softcap(logits, cap).to(at::kFloat), targets);
}

at::Tensor softcap_token_losses(const at::Tensor& logits, const at::Tensor& targets, double cap, OpsPath path) {
  RECORD_USER_SCOPE("softcap_token_losses");
  const at::NoGradGuard no_grad;
  if (path == OpsPath::fast) {
    if (auto losses = fast::softcap_token_losses(logits, targets, cap); losses.defined()) return losses;
  }
  return at::cross_entropy_loss(softcap(logits, cap).to(at::kFloat), targets, /*weight=*/{}, at::Reduction::None);
}

}  // namespace pgolf::ops
