#include "pgolf/eval/generate.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <algorithm>

#include "pgolf/data/document_index.h"

namespace pgolf {

std::vector<int> generate(Gpt& model, const std::vector<int>& prompt, const GenerateOptions& options, const at::Device& device) {
  torch::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(options.seed));
  std::vector<int64_t> ids(prompt.begin(), prompt.end());
  std::vector<int> produced;
  while (static_cast<int>(produced.size()) < options.max_new_tokens) {
    const auto length = std::min<int64_t>(static_cast<int64_t>(ids.size()), options.context);
    const auto window = torch::tensor(std::vector<int64_t>(ids.end() - length, ids.end())).view({1, length}).to(device);
    auto scores = model->logits(window)[0][length - 1].to(at::kCPU, at::kFloat);
    int64_t next = 0;
    if (options.temperature <= 0) {
      next = scores.argmax().item<int64_t>();
    } else {
      if (options.top_k > 0 && options.top_k < scores.size(0)) {
        const auto threshold = std::get<0>(scores.topk(options.top_k))[options.top_k - 1];
        scores = scores.masked_fill(scores < threshold, -std::numeric_limits<float>::infinity());
      }
      next = at::multinomial(at::softmax(scores / options.temperature, -1), 1, false, generator).item<int64_t>();
    }
    if (next == kBosId) break;
    ids.push_back(next);
    produced.push_back(static_cast<int>(next));
  }
  return produced;
}

}  // namespace pgolf
