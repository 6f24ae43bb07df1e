#include "pgolf/eval/score.h"

#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <mutex>
#include <thread>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "statistics.h"

namespace pgolf {

void StreamScore::set(const ScoredWindow& window, std::span<const float> scored) {
  for (size_t i = 0; i < scored.size(); ++i) {
    const int64_t position = window.first_scored + static_cast<int64_t>(i);
    losses[static_cast<size_t>(window.begin + position)] = scored[i];
    positions[static_cast<size_t>(window.begin + position)] = static_cast<int32_t>(position);
  }
}

namespace {

/// Windows of one length, computed together.
struct Batch {
  size_t first, last;
};

std::vector<Batch> plan_batches(const std::vector<ScoredWindow>& windows, size_t most) {
  std::vector<Batch> batches;
  for (size_t first = 0; first < windows.size(); first = batches.back().last) {
    size_t last = first + 1;
    while (last < windows.size() && last - first < most && windows[last].length == windows[first].length) ++last;
    batches.push_back({first, last});
  }
  return batches;
}

}  // namespace

StreamScore score_stream(std::vector<Gpt>& models, std::span<const uint16_t> tokens, const ScoreOptions& options) {
  const size_t targets = tokens.size() - 1;
  const auto windows = plan_windows(static_cast<int64_t>(targets), options.seq_len, options.stride);
  const auto batches = plan_batches(windows, static_cast<size_t>(std::max<int64_t>(1, options.batch_tokens / options.seq_len)));
  StreamScore score(targets);
  std::mutex mutex;
  size_t next = 0;
  int64_t done = 0;
  std::exception_ptr error;
  const auto take_batches = [&](Gpt& model) {
    const c10::DeviceGuard device(model->tok_emb->weight.device());
    std::unique_lock lock(mutex);
    while (next < batches.size() && error == nullptr) {
      const Batch batch = batches[next++];
      lock.unlock();
      std::exception_ptr problem;
      try {
        const auto part = std::span(windows).subspan(batch.first, batch.last - batch.first);
        score_windows(model, tokens, part, static_cast<int64_t>(part.size()),
                      [&](const ScoredWindow& window, std::span<const float> losses) { score.set(window, losses); });
      } catch (...) {
        problem = std::current_exception();
      }
      lock.lock();
      if (error == nullptr) error = problem;
      done += static_cast<int64_t>(batch.last - batch.first);
      if (error == nullptr && options.progress) options.progress(done, static_cast<int64_t>(windows.size()));
    }
  };
  {
    std::vector<std::jthread> others;
    for (size_t i = 1; i < models.size(); ++i) others.emplace_back([&, i] { take_batches(models[i]); });
    take_batches(models[0]);
  }
  if (error != nullptr) std::rethrow_exception(error);
  return score;
}

ScoreSummary summarize(const StreamScore& score, std::span<const uint16_t> tokens, const ByteCounts& byte_counts,
                       int64_t seq_len) {
  const auto targets = static_cast<int64_t>(score.losses.size());
  std::vector<double> losses, bytes, counts;  // of chunks
  ScoreSummary summary;
  double sum = 0;
  for (int64_t begin = 0; begin < targets; begin += seq_len) {
    const int64_t count = std::min(seq_len, targets - begin);
    double loss = 0;
    for (int64_t i = begin; i < begin + count; ++i) loss += score.losses[static_cast<size_t>(i)];
    const int64_t chunk_bytes = byte_counts.count(tokens, begin, count);
    losses.push_back(loss);
    bytes.push_back(static_cast<double>(chunk_bytes));
    counts.push_back(static_cast<double>(count));
    summary.total.bytes += chunk_bytes;
    sum += loss;
  }
  EvalResult& total = summary.total;
  total.tokens = targets;
  total.val_loss = sum / static_cast<double>(targets);
  total.val_bpb = bits_per_byte(total.val_loss, total.tokens, total.bytes);
  // Both are ratios of sums over chunks; the last chunk may be short.
  const auto error_of_ratio = [&](double ratio, const std::vector<double>& weights, double scale) {
    double mean_weight = 0;
    for (const double weight : weights) mean_weight += weight / static_cast<double>(weights.size());
    std::vector<double> residuals;
    for (size_t i = 0; i < weights.size(); ++i) residuals.push_back((losses[i] * scale - ratio * weights[i]) / mean_weight);
    return standard_error_of_mean(residuals);
  };
  summary.stderr_loss = error_of_ratio(total.val_loss, counts, 1);
  summary.stderr_bpb = error_of_ratio(total.val_bpb, bytes, 1 / std::log(2.0));
  return summary;
}

std::vector<PositionBucket> by_position(const StreamScore& score, int64_t seq_len) {
  std::vector<PositionBucket> buckets;
  for (int64_t from = 0, to = 1; from < seq_len; from = to, to *= 2) buckets.push_back({from, std::min(to, seq_len), 0, 0});
  for (size_t i = 0; i < score.losses.size(); ++i) {
    const auto found = std::find_if(buckets.begin(), buckets.end(),
                                    [&](const PositionBucket& bucket) { return score.positions[i] < bucket.to; });
    found->loss += score.losses[i];
    ++found->tokens;
  }
  std::erase_if(buckets, [](const PositionBucket& bucket) { return bucket.tokens == 0; });
  for (auto& bucket : buckets) bucket.loss /= static_cast<double>(bucket.tokens);
  return buckets;
}

std::vector<DocumentLoss> by_document(const StreamScore& score, std::span<const uint16_t> tokens, const ByteCounts& byte_counts,
                                      int bos_id) {
  std::vector<DocumentLoss> documents;
  const size_t targets = score.losses.size();
  for (size_t begin = 0; begin < targets;) {
    // A BOS target belongs to the document before it, as its end.
    size_t end = begin + 1;
    while (end < targets && tokens[end] != bos_id) ++end;
    DocumentLoss document;
    document.begin = static_cast<int64_t>(begin);
    document.tokens = static_cast<int64_t>(end - begin);
    document.bytes = byte_counts.count(tokens, document.begin, document.tokens);
    for (size_t i = begin; i < end; ++i) document.loss += score.losses[i];
    document.loss /= static_cast<double>(document.tokens);
    if (document.bytes > 0) {
      document.bpb = bits_per_byte(document.loss, document.tokens, document.bytes);
      documents.push_back(document);
    }
    begin = end;
  }
  return documents;
}

std::string known_split(int64_t tokens, int64_t bytes) {
  struct Split {
    const char* name;
    int64_t tokens, bytes;
  };
  // Whole windows of 1,024 and 2,048 targets, as scored in the published logs.
  constexpr Split known[] = {{"fineweb10B sp1024 validation", 62'021'632, 151'080'363},
                             {"fineweb10B sp1024 validation, older export", 63'779'840, 155'769'746},
                             {"fineweb10B sp4096 validation", 45'508'608, 151'074'053},
                             {"fineweb10B sp8192 validation", 40'540'160, 151'078'222},
                             {"fineweb10B sp8192 CaseOps validation", 47'851'520, 151'074'499}};
  for (const auto& split : known) {
    if (split.tokens == tokens && split.bytes == bytes) return split.name;
  }
  return {};
}

}  // namespace pgolf
