#include "pgolf/model/generate.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "pgolf/base/error.h"

namespace pgolf {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// scores [V] with all but the k largest set to -infinity.
at::Tensor keep_top_k(const at::Tensor& scores, int k) {
  if (k <= 0 || k >= scores.size(0)) return scores;
  const auto [values, order] = scores.topk(k);  // exactly k, also with ties
  return at::full_like(scores, kMinusInfinity).scatter(0, order, values);
}

/// Keeps the most likely of probabilities [V] whose sum first reaches p, zeroes the others; not renormalized.
at::Tensor keep_top_p(const at::Tensor& probabilities, double p) {
  if (p >= 1) return probabilities;
  const auto [sorted, order] = probabilities.sort(/*stable=*/true, /*dim=*/-1, /*descending=*/true);
  const auto before = sorted.cumsum(-1) - sorted;
  const double reached = std::max<double>(p, std::numeric_limits<float>::min());  // compared in float32, where p may be 0
  return at::zeros_like(probabilities).scatter(0, order, sorted.masked_fill(before >= reached, 0));
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options)
    : options_(options), generator_(at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(options.seed))) {}

int Sampler::next(const at::Tensor& logits) {
  const auto most = logits.max();  // NaN if any is
  if (!std::isfinite(most.item<float>())) throw Error(ExitCode::non_finite, "the model's logits are not finite");
  if (options_.temperature < kGreedyBelow) return static_cast<int>(logits.argmax().item<int64_t>());
  const auto probabilities = at::softmax((keep_top_k(logits, options_.top_k) - most) / options_.temperature, -1);
  return static_cast<int>(
      at::multinomial(keep_top_p(probabilities, options_.top_p), 1, /*replacement=*/false, generator_).item<int64_t>());
}

Continuation::Continuation(Gpt& model, const std::vector<int>& prompt, int context, const at::Device& device, bool keep)
    : model_(model), ids_(prompt.begin(), prompt.end()), context_(static_cast<size_t>(context)), device_(device) {
  TORCH_CHECK(!prompt.empty() && context > 0, "nothing to continue");
  if (ids_.size() > context_) start_ = ids_.size() - context_;
  if (keep) cache_ = model->make_cache(context);
}

at::Tensor Continuation::logits() {
  const torch::NoGradGuard no_grad;
  if (ids_.size() - start_ > context_) {
    start_ = ids_.size() - std::max<size_t>(context_ / 2, 1);
    if (cache_) cache_->truncate(0);
  }
  const size_t held = cache_ ? static_cast<size_t>(cache_->length()) : 0;
  const auto from = ids_.begin() + static_cast<std::ptrdiff_t>(start_ + held);
  const auto fresh = at::tensor(std::vector<int64_t>(from, ids_.end())).unsqueeze(0).to(device_);
  const auto scores = cache_ ? model_->extend(fresh, *cache_, GptImpl::Positions::last) : model_->logits(fresh);
  return scores[0][scores.size(1) - 1].to(at::kCPU, at::kFloat);
}

std::vector<int> generate(Gpt& model, const std::vector<int>& prompt, const GenerateOptions& options, const at::Device& device,
                          const std::function<bool(int id)>& on_token) {
  Sampler sampler(options);
  Continuation text(model, prompt, options.context, device, options.kv_cache);
  std::vector<int> produced;
  while (static_cast<int>(produced.size()) < options.max_new_tokens) {
    const int next = sampler.next(text.logits());
    if (std::ranges::count(options.ends, next) > 0) break;
    text.push(next);
    produced.push_back(next);
    if (on_token && !on_token(next)) break;
  }
  return produced;
}

}  // namespace pgolf
