#include "pgolf/eval/likelihood.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

/// White space beyond ASCII, in UTF-8, that Python's str.rstrip() removes.
constexpr std::string_view kWideSpaces[] = {"\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003",
                                            "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a",
                                            "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};

/// Length in bytes of the white space character at the end of text; 0 if none.
size_t trailing_space(std::string_view text) {
  constexpr std::string_view narrow = " \t\n\v\f\r\x1c\x1d\x1e\x1f";
  if (!text.empty() && narrow.find(text.back()) != std::string_view::npos) return 1;
  for (const auto space : kWideSpaces) {
    if (text.ends_with(space)) return space.size();
  }
  return 0;
}

std::string_view without_trailing_space(std::string_view text) {
  while (const size_t length = trailing_space(text)) text.remove_suffix(length);
  return text;
}

}  // namespace

std::vector<int64_t> model_input(std::span<const int> ids, int context, int bos_id) {
  const auto limit = static_cast<size_t>(context);
  if (!ids.empty() && ids.front() == bos_id && ids.size() <= limit) return {ids.begin(), ids.end()};
  std::vector<int64_t> input{bos_id};
  const auto seen = ids.last(std::min(ids.size(), limit - 1));
  input.insert(input.end(), seen.begin(), seen.end());
  return input;
}

at::Tensor log_probabilities_after(Gpt& model, const std::vector<int64_t>& input, size_t first, const at::Device& device) {
  const at::NoGradGuard no_grad;
  const auto logits = model->logits(at::tensor(input).unsqueeze(0).to(device))[0];
  return at::log_softmax(logits.slice(0, static_cast<int64_t>(first)).to(at::kFloat), -1).to(at::kCPU);
}

TextPair encode_pair(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation) {
  const auto kept = without_trailing_space(context);
  const std::string whole = std::string(context) + std::string(continuation);
  TextPair pair{tokenizer.encode(kept), tokenizer.encode(whole)};
  auto& ids = pair.continuation;
  ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(std::min(pair.context.size(), ids.size())));
  return pair;
}

std::vector<Likelihood> likelihoods(Gpt& model, std::span<const TextPair> pairs, int context, int bos_id,
                                    const at::Device& device, const std::function<void(int64_t done)>& progress) {
  std::vector<Likelihood> results;
  for (const auto& pair : pairs) {
    const size_t scored = pair.continuation.size();
    if (scored == 0 || scored >= static_cast<size_t>(context)) {
      throw Error(ExitCode::bad_input,
                  format("a text of %zu tokens cannot be scored in a context of %d that begins with BOS", scored, context));
    }
    std::vector<int> ids = pair.context;
    ids.insert(ids.end(), pair.continuation.begin(), pair.continuation.end());
    const auto input = model_input(ids, context, bos_id);
    const auto rows = log_probabilities_after(model, input, input.size() - scored - 1, device);
    const auto max_log_probs = std::get<0>(rows.max(-1));
    const auto all = rows.accessor<float, 2>();
    const auto best = max_log_probs.accessor<float, 1>();
    const size_t needed = ids.size() + (ids.front() == bos_id ? 0 : 1);
    Likelihood result{.log_prob = 0, .greedy = true, .truncated = needed > static_cast<size_t>(context)};
    for (int64_t i = 0; i < static_cast<int64_t>(scored); ++i) {
      const float log_prob = all[i][pair.continuation[static_cast<size_t>(i)]];
      result.log_prob += log_prob;
      result.greedy = result.greedy && log_prob == best[i];
    }
    if (std::isnan(result.log_prob)) throw Error(ExitCode::non_finite, "the model's logits are not finite");
    results.push_back(result);
    if (progress) progress(static_cast<int64_t>(results.size()));
  }
  return results;
}

}  // namespace pgolf
