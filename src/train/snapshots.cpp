#include "snapshots.h"

#include <torch/types.h>

#include "pgolf/model/generate.h"

namespace pgolf {
namespace {

constexpr int64_t kBuckets = 64;

}  // namespace

std::string sample_text(Gpt& model, const Tokenizer& tokenizer, const SampleConfig& config, int context,
                        const at::Device& device) {
  const torch::NoGradGuard no_grad;
  std::vector<int> ids{tokenizer.required_bos_id()};
  for (const int id : tokenizer.encode(config.prompt)) ids.push_back(id);
  GenerateOptions options;
  options.max_new_tokens = config.tokens;
  options.context = context;
  options.ends = tokenizer.document_ends();
  for (const int id : generate(model, ids, options, device)) ids.push_back(id);
  return tokenizer.decode(ids);
}

std::optional<Histogram> histogram_of(const at::Tensor& values) {
  const torch::NoGradGuard no_grad;
  // CUDA's histc is not deterministic, which DETERMINISTIC=1 refuses.
  at::Tensor numbers = values.detach().to(at::kCPU, at::kFloat).flatten();
  numbers = numbers.masked_select(at::isfinite(numbers));
  if (numbers.numel() == 0) return std::nullopt;
  Histogram made{.min = numbers.min().item<double>(),
                 .max = numbers.max().item<double>(),
                 .sum = numbers.sum(at::kDouble).item<double>(),
                 .sum_squares = numbers.to(at::kDouble).square().sum().item<double>(),
                 .count = numbers.numel(),
                 .limits = {},
                 .counts = {}};
  if (made.min == made.max) {
    made.limits = {made.max};
    made.counts = {static_cast<double>(made.count)};
    return made;
  }
  const at::Tensor counts = at::histc(numbers, kBuckets, made.min, made.max).to(at::kDouble);
  for (int64_t i = 0; i < kBuckets; ++i) {
    made.limits.push_back(i + 1 == kBuckets ? made.max
                                            : made.min + (made.max - made.min) * static_cast<double>(i + 1) / kBuckets);
    made.counts.push_back(counts[i].item<double>());
  }
  return made;
}

}  // namespace pgolf
