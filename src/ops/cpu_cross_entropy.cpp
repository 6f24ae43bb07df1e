// softcap_cross_entropy on the CPU: one pass over the logits gives the losses and, where wanted, the gradient.
#include <torch/csrc/autograd/custom_function.h>

#include <memory>

#include "cpu_ops.h"

namespace pgolf::ops::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

/// Writes dloss/dlogits to gradient unless it is undefined.
at::Tensor mean_loss(const at::Tensor& logits, const at::Tensor& targets, double cap, const at::Tensor& gradient) {
  const int64_t rows = logits.size(0), vocab = logits.size(1);
  const auto losses = empty_float({rows});
  const auto* const target_data = in<int64_t>(targets);
  with_kernels(logits, [&](const auto& kernels) {
    using T = ElementOf<decltype(kernels)>;
    T* const gradient_data = gradient.defined() ? out<T>(gradient) : nullptr;
    for_row_blocks(rows, vocab, [&](int64_t, int64_t first, int64_t count) {
      const std::unique_ptr<float[]> scratch(new float[static_cast<size_t>(2 * vocab)]);
      kernels.softcap_cross_entropy(in<T>(logits) + first * vocab, target_data + first, static_cast<float>(cap),
                                    1.0f / static_cast<float>(rows), out<float>(losses) + first,
                                    gradient_data ? gradient_data + first * vocab : nullptr, scratch.get(), count, vocab);
    });
  });
  double sum = 0;
  for (int64_t row = 0; row < rows; ++row) sum += in<float>(losses)[row];
  return at::scalar_tensor(sum / static_cast<double>(rows), losses.options());
}

struct SoftcapCrossEntropy : Function<SoftcapCrossEntropy> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits, const at::Tensor& targets, double cap) {
    const auto gradient = at::empty_like(logits);
    context->saved_data["gradient"] = gradient;
    return mean_loss(logits, targets, cap, gradient);
  }
  /// Scales the buffer in place and gives it away: no second [N, V] buffer, but only one backward.
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("softcap_cross_entropy");
    const auto found = context->saved_data.find("gradient");
    TORCH_CHECK(found != context->saved_data.end(),
                "softcap_cross_entropy went backward already: its gradient buffer is used up; use OPS=reference with "
                "retain_graph");
    const auto gradient = found->second.toTensor();
    context->saved_data.erase(found);
    const auto factor = gradients[0].item<float>();
    return {factor == 1.0f ? gradient : gradient.mul_(factor), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor softcap_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double cap) {
  if (!covered(logits) || logits.dim() != 2 || !targets.is_cpu() || targets.scalar_type() != at::kLong || targets.dim() != 1 ||
      targets.size(0) != logits.size(0)) {
    return {};
  }
  const auto dense = logits.contiguous(), dense_targets = targets.contiguous();
  for (int64_t row = 0; row < dense.size(0); ++row) {
    const int64_t target = in<int64_t>(dense_targets)[row];
    TORCH_CHECK_INDEX(target >= 0 && target < dense.size(1), "target ", target, " of row ", row, " is not in 0 .. ",
                      dense.size(1) - 1);
  }
  if (needs_gradient(logits)) return SoftcapCrossEntropy::apply(dense, dense_targets, cap);
  return mean_loss(dense, dense_targets, cap, {});
}

}  // namespace pgolf::ops::cpu
