// softcap_cross_entropy: losses and, if needed, the gradient in one loop over the logits.
#include <torch/csrc/autograd/custom_function.h>

#include <memory>

#include "fast.h"

namespace pgolf::ops::fast {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

template <class T>
void run(const Kernels<T>& kernels, const T* logits, const int64_t* targets, float cap, float grad_scale, float* loss,
         T* gradient, int64_t rows, int64_t vocab) {
  const std::unique_ptr<float[]> scratch(new float[static_cast<size_t>(2 * vocab)]);
  kernels.softcap_cross_entropy(logits, targets, cap, grad_scale, loss, gradient, scratch.get(), rows, vocab);
}
#ifdef PGOLF_WITH_CUDA
template <class T>
void run(const cuda::Kernels<T>& kernels, const T* logits, const int64_t* targets, float cap, float grad_scale, float* loss,
         T* gradient, int64_t rows, int64_t vocab) {
  kernels.softcap_cross_entropy(logits, targets, cap, grad_scale, loss, gradient, rows, vocab);
}
#endif

/// Per-row losses. Writes the gradient of their mean, times `factor`, to gradient unless it is undefined.
at::Tensor row_losses(const at::Tensor& logits, const at::Tensor& targets, double cap, const at::Tensor& gradient = {},
                      double factor = 1) {
  const int64_t all_rows = logits.size(0), vocab = logits.size(1);
  const auto losses = empty_float({all_rows}, logits);
  for_row_blocks(logits, all_rows, vocab, [&](const auto& kernels, int64_t, int64_t first, int64_t rows) {
    using T = ElementOf<decltype(kernels)>;
    const int64_t at = first * vocab;
    run<T>(kernels, in<T>(logits, at), in<int64_t>(targets, first), static_cast<float>(cap),
           static_cast<float>(factor) / static_cast<float>(all_rows), out<float>(losses, first), out<T>(gradient, at), rows,
           vocab);
  });
  return losses;
}

at::Tensor mean_of(const at::Tensor& losses) {
  return losses.mean(at::kDouble).to(at::kFloat);
}

/// x *= factor, a float32 scalar on x's device: read there, since copying it from a GPU would block the host.
void scale_in_place(const at::Tensor& x, const at::Tensor& factor) {
  const int64_t width = x.size(1);
  for_row_blocks(x, x.size(0), width, [&](const auto& kernels, int64_t, int64_t first, int64_t rows) {
    kernels.scale(out<ElementOf<decltype(kernels)>>(x, first * width), in<float>(factor), rows * width);
  });
}

struct SoftcapCrossEntropy : Function<SoftcapCrossEntropy> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits, const at::Tensor& targets, double cap,
                            double expected) {
    const auto gradient = at::empty_like(logits);
    context->saved_data["gradient"] = gradient;
    context->saved_data["expected"] = expected;
    return mean_of(row_losses(logits, targets, cap, gradient, expected));
  }
  /// Scales the buffer in place and gives it away: no second [N, V] buffer, but only one backward().
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    refuse_second_derivative("softcap_cross_entropy");
    const auto found = context->saved_data.find("gradient");
    TORCH_CHECK(found != context->saved_data.end(),
                "softcap_cross_entropy: backward() was already called and its gradient buffer was freed; use OPS=reference with "
                "retain_graph");
    const auto gradient = found->second.toTensor();
    context->saved_data.erase(found);
    scale_in_place(gradient, gradients[0] / context->saved_data["expected"].toDouble());
    return {gradient, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

/// Makes both contiguous. False if the kernels do not cover them. On the CPU throws for targets out of range.
bool prepare(at::Tensor& logits, at::Tensor& targets) {
  if (!covered(logits) || logits.dim() != 2 || !within(cuda::kMaxLogitBytes, logits) || targets.device() != logits.device() ||
      targets.scalar_type() != at::kLong || targets.dim() != 1 || targets.size(0) != logits.size(0)) {
    return false;
  }
  logits = logits.contiguous();
  targets = targets.contiguous();
  if (logits.is_cpu()) {
    for (int64_t row = 0; row < logits.size(0); ++row) {
      const int64_t target = in<int64_t>(targets)[row];
      TORCH_CHECK_INDEX(target >= 0 && target < logits.size(1), "target ", target, " of row ", row, " is not in 0 .. ",
                        logits.size(1) - 1);
    }
  }
  return true;
}

}  // namespace

at::Tensor softcap_cross_entropy(const at::Tensor& logits_in, const at::Tensor& targets_in, double cap, double gradient) {
  at::Tensor logits = logits_in, targets = targets_in;
  if (!prepare(logits, targets)) return {};
  if (needs_gradient(logits_in)) return SoftcapCrossEntropy::apply(logits, targets, cap, gradient);
  return mean_of(row_losses(logits, targets, cap));
}

at::Tensor softcap_token_losses(const at::Tensor& logits_in, const at::Tensor& targets_in, double cap) {
  at::Tensor logits = logits_in, targets = targets_in;
  return prepare(logits, targets) ? row_losses(logits, targets, cap) : at::Tensor();
}

}  // namespace pgolf::ops::fast
