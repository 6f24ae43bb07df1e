#include "pgolf/eval/bpb.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace pgolf {

EvalResult evaluate(Gpt& model, const ValidationSet& validation, const ByteCounts& byte_counts, const EvalOptions& options) {
  torch::NoGradGuard no_grad;
  const bool was_training = model->is_training();
  model->eval();
  const auto tokens = validation.tokens();
  const int64_t sequences = validation.sequences();
  double loss_sum = 0;
  EvalResult result;
  for (int64_t first = 0; first < sequences; first += options.batch_sequences) {
    const int64_t count = std::min(options.batch_sequences, sequences - first);
    const auto window =
        tokens.subspan(static_cast<size_t>(first * options.seq_len), static_cast<size_t>(count * options.seq_len + 1));
    auto ids = torch::empty({static_cast<int64_t>(window.size())}, torch::kLong);
    std::copy(window.begin(), window.end(), ids.data_ptr<int64_t>());
    ids = ids.to(options.device);
    const int64_t targets = count * options.seq_len;
    const auto loss =
        model(ids.narrow(0, 0, targets).view({count, options.seq_len}), ids.narrow(0, 1, targets).view({count, options.seq_len}));
    loss_sum += loss.to(torch::kDouble).item<double>() * static_cast<double>(targets);
    result.tokens += targets;
    result.bytes += byte_counts.count(window.first(window.size() - 1), window.subspan(1));
    if (options.progress) options.progress(first + count, sequences);
  }
  model->train(was_training);
  result.val_loss = loss_sum / static_cast<double>(result.tokens);
  result.val_bpb = result.val_loss / std::log(2.0) * (static_cast<double>(result.tokens) / static_cast<double>(result.bytes));
  return result;
}

}  // namespace pgolf
