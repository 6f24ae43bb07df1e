#include "pgolf/eval/position_loss.h"

#include "statistics.h"
#include "windows.h"

namespace pgolf {
namespace {

std::vector<PositionBucket> empty_buckets(int64_t seq_len) {
  std::vector<PositionBucket> buckets;
  for (int64_t from = 0, to = 1; from < seq_len; from = to, to *= 2) buckets.push_back({from, std::min(to, seq_len)});
  return buckets;
}

}  // namespace

at::Tensor token_losses(const at::Tensor& logits, const at::Tensor& targets) {
  // By blocks, so that no float32 copy of all logits is made.
  const int64_t rows = std::max<int64_t>(1, (int64_t{1} << 22) / logits.size(1));
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < logits.size(0); first += rows) {
    const int64_t count = std::min(rows, logits.size(0) - first);
    const auto log_probabilities = at::log_softmax(logits.narrow(0, first, count).to(at::kFloat), -1);
    parts.push_back(-log_probabilities.gather(1, targets.narrow(0, first, count).unsqueeze(1)).squeeze(1));
  }
  return at::cat(parts);
}

PositionLoss measure_positions(Gpt& model, const ValidationSet& validation, const ByteCounts& byte_counts,
                               const EvalOptions& options) {
  const EvaluationMode mode(model);
  const int64_t sequences = validation.sequences(), seq_len = options.seq_len;
  auto by_position = at::zeros({seq_len}, at::kDouble);
  std::vector<double> window_means;
  PositionLoss result;
  for (int64_t first = 0; first < sequences; first += options.batch_sequences) {
    const int64_t count = std::min(options.batch_sequences, sequences - first);
    const Windows windows = read_windows(validation, seq_len, first, count, options.device);
    const auto logits = model->logits(windows.inputs).flatten(0, 1);
    const auto losses = token_losses(logits, windows.targets.flatten()).view({count, seq_len}).to(at::kCPU, at::kDouble);
    by_position += losses.sum(0);
    const auto means = losses.mean(1);
    for (int64_t i = 0; i < count; ++i) window_means.push_back(means[i].item<double>());
    result.total.bytes += byte_counts.count(windows.tokens.first(windows.tokens.size() - 1), windows.tokens.subspan(1));
    if (options.progress) options.progress(first + count, sequences);
  }
  result.buckets = empty_buckets(seq_len);
  double sum = 0;
  for (auto& bucket : result.buckets) {
    const double bucket_sum = by_position.slice(0, bucket.from, bucket.to).sum().item<double>();
    bucket.tokens = sequences * (bucket.to - bucket.from);
    bucket.loss = bucket_sum / static_cast<double>(bucket.tokens);
    sum += bucket_sum;
  }
  EvalResult& total = result.total;
  total.tokens = sequences * seq_len;
  total.val_loss = sum / static_cast<double>(total.tokens);
  total.val_bpb = bits_per_byte(total.val_loss, total.tokens, total.bytes);
  result.standard_error = standard_error_of_mean(window_means);
  return result;
}

}  // namespace pgolf
