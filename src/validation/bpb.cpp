#include "pgolf/validation/bpb.h"

#include <algorithm>
#include <cmath>

#include "pgolf/validation/windows.h"

namespace pgolf {

double bits_per_byte(double loss, int64_t tokens, int64_t bytes) {
  return loss / std::log(2.0) * (static_cast<double>(tokens) / static_cast<double>(bytes));
}

EvalResult evaluate(Gpt& model, const ValidationSet& validation, const ByteCounts& byte_counts, const EvalOptions& options) {
  const EvaluationMode mode(model);
  const int64_t sequences = validation.sequences();
  double loss_sum = 0;
  EvalResult result;
  for (int64_t first = 0; first < sequences; first += options.batch_sequences) {
    const int64_t count = std::min(options.batch_sequences, sequences - first);
    const Windows windows = read_windows(validation, options.seq_len, first, count, options.device);
    const int64_t targets = count * options.seq_len;
    loss_sum += model(windows.inputs, windows.targets).to(torch::kDouble).item<double>() * static_cast<double>(targets);
    result.tokens += targets;
    result.bytes += byte_counts.count(windows.tokens.first(windows.tokens.size() - 1), windows.tokens.subspan(1));
    if (options.progress) options.progress(first + count, sequences);
  }
  result.val_loss = loss_sum / static_cast<double>(result.tokens);
  result.val_bpb = bits_per_byte(result.val_loss, result.tokens, result.bytes);
  return result;
}

}  // namespace pgolf
