#include "pgolf/validation/bpb.h"

#include <algorithm>
#include <cmath>

#include "pgolf/validation/windows.h"

namespace pgolf {

double bits_per_byte(double loss, int64_t tokens, int64_t bytes) {
  return loss / std::log(2.0) * (static_cast<double>(tokens) / static_cast<double>(bytes));
}

EvalResult EvalSums::result() const {
  const double mean = loss / static_cast<double>(tokens);
  return {mean, bits_per_byte(mean, tokens, bytes), tokens, bytes};
}

EvalSums evaluate_share(Gpt& model, const ValidationSet& validation, const ByteCounts& byte_counts, const EvalOptions& options) {
  const at::NoGradGuard no_grad;
  const int64_t sequences = validation.sequences(), begin = sequences * options.rank / options.world_size,
                end = sequences * (options.rank + 1) / options.world_size;
  EvalSums sums;
  for (int64_t first = begin; first < end; first += options.batch_sequences) {
    if (options.stop && options.stop()) break;
    const int64_t count = std::min(options.batch_sequences, end - first);
    const Windows windows = read_windows(validation.tokens(), options.seq_len, first, count, options.device);
    const int64_t targets = count * options.seq_len;
    sums.loss += model(windows.inputs, windows.targets).to(torch::kDouble).item<double>() * static_cast<double>(targets);
    sums.tokens += targets;
    sums.bytes += byte_counts.count(validation.tokens(), first * options.seq_len, targets);
    if (options.progress) options.progress(first + count - begin, end - begin);
  }
  return sums;
}

}  // namespace pgolf
