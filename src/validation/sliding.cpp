#include "pgolf/validation/sliding.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {

std::vector<ScoredWindow> plan_windows(int64_t targets, int64_t seq_len, int64_t stride) {
  std::vector<ScoredWindow> windows{{0, std::min(targets, seq_len), 0}};
  for (int64_t scored = windows[0].length; scored < targets;) {
    const int64_t begin = windows.back().begin + stride, length = std::min(seq_len, targets - begin);
    windows.push_back({begin, length, scored - begin});
    scored = begin + length;
  }
  return windows;
}

void score_windows(Gpt& model, std::span<const uint16_t> tokens, std::span<const ScoredWindow> windows, int64_t per_batch,
                   const OnScored& on_scored) {
  const at::NoGradGuard no_grad;
  while (!windows.empty()) {
    // Windows that score the same positions: all but a text's first, and perhaps its last.
    const int64_t length = windows[0].length, first = windows[0].first_scored, targets = length - first;
    const auto alike = [&](const ScoredWindow& window) { return window.length == length && window.first_scored == first; };
    size_t count = 1;
    while (count < windows.size() && count < static_cast<size_t>(per_batch) && alike(windows[count])) ++count;
    auto ids = torch::empty({static_cast<int64_t>(count), length + 1}, torch::kLong);
    for (size_t i = 0; i < count; ++i) {
      const auto from = tokens.begin() + windows[i].begin;
      std::copy(from, from + length + 1, ids.data_ptr<int64_t>() + static_cast<int64_t>(i) * (length + 1));
    }
    ids = ids.to(model->tok_emb->weight.device());
    const auto losses =
        model->token_losses(ids.narrow(1, 0, length), ids.narrow(1, 1 + first, targets)).to(at::kCPU).contiguous();
    for (size_t i = 0; i < count; ++i) {
      const ScoredWindow& window = windows[i];
      const std::span<const float> scored(losses.const_data_ptr<float>() + static_cast<int64_t>(i) * targets,
                                          static_cast<size_t>(targets));
      const auto bad = std::find_if(scored.begin(), scored.end(), [](float loss) { return !std::isfinite(loss); });
      if (bad != scored.end()) {
        throw Error(ExitCode::non_finite,
                    format("the loss of target %lld of the stream is %s",
                           static_cast<long long>(window.begin + first + (bad - scored.begin())), python_float(*bad).c_str()));
      }
      on_scored(window, scored);
    }
    windows = windows.subspan(count);
  }
}

void add_window(EvalSums& sums, std::span<const uint16_t> tokens, const ByteCounts& byte_counts, const ScoredWindow& window,
                std::span<const float> losses) {
  for (const float loss : losses) sums.loss += loss;
  sums.tokens += window.scored();
  sums.bytes += byte_counts.count(tokens, window.begin + window.first_scored, window.scored());
}

}  // namespace pgolf
