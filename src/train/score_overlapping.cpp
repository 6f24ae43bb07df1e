#include "score_overlapping.h"

#include <algorithm>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/base/stopwatch.h"
#include "pgolf/train/test_time_training.h"
#include "run_log.h"

namespace pgolf {
namespace {

constexpr int64_t kWindowsPerBatch = 32;

/// Sums what score(on_scored) passes on, over all ranks. Writes nothing and returns false if score is false, on any of them:
/// stopped.
bool write_sums(Trainer& trainer, RecordFile* records, const char* name, int64_t windows,
                const std::function<bool(const OnScored&)>& score) {
  const Stopwatch watch;
  Progress bar(name, windows);
  EvalSums share;
  int64_t done = 0;
  const bool complete = score([&](const ScoredWindow& window, std::span<const float> losses) {
    add_window(share, trainer.validation().tokens(), trainer.byte_counts(), window, losses);
    bar.update(++done);
  });
  bar.finish();
  const std::optional<EvalResult> result = trainer.sum_shares(share, /*stopped=*/!complete);
  if (!result) return false;
  if (records != nullptr) write_score(*records, name, *result, watch.milliseconds());
  return true;
}

/// False if a stop signal came before all were scored.
bool score_unless_stopped(Gpt& model, std::span<const uint16_t> tokens, std::span<const ScoredWindow> windows,
                          const OnScored& on_scored) {
  for (size_t first = 0; first < windows.size(); first += kWindowsPerBatch) {
    if (stop_signal() != 0) return false;
    score_windows(model, tokens, windows.subspan(first, std::min<size_t>(kWindowsPerBatch, windows.size() - first)),
                  kWindowsPerBatch, on_scored);
  }
  return true;
}

}  // namespace

bool score_overlapping(Trainer& trainer, RecordFile* records) {
  const ScoreConfig& score = trainer.config().score;
  if (score.eval_stride == 0) return true;
  Gpt& model = trainer.model();
  Group& group = trainer.group();
  const auto tokens = trainer.validation().tokens();
  const int64_t seq_len = trainer.config().data.train_seq_len;
  const auto windows = plan_windows(trainer.validation().targets(), seq_len, score.eval_stride);
  const auto [first, end] = group.share(static_cast<int64_t>(windows.size()));
  const auto share = std::span(windows).subspan(static_cast<size_t>(first), static_cast<size_t>(end - first));
  const auto sliding = [&](const OnScored& on_scored) { return score_unless_stopped(model, tokens, share, on_scored); };
  if (!write_sums(trainer, records, "sliding_window", static_cast<int64_t>(share.size()), sliding)) return false;
  if (!score.ttt.enabled) return true;
  if (group.is_master()) {
    const int64_t chunks = (trainer.validation().targets() + score.ttt.chunk_tokens - 1) / score.ttt.chunk_tokens;
    log::info(
        format("ttt:start chunks:%lld ttt_lr:%g ttt_epochs:%d", static_cast<long long>(chunks), score.ttt.lr, score.ttt.epochs));
  }
  return write_sums(trainer, records, "ttt", static_cast<int64_t>(share.size()), [&](const OnScored& on_scored) {
    const TestTimeWindows wanted{.seq_len = seq_len, .stride = score.eval_stride, .per_batch = kWindowsPerBatch};
    bool stopped = false;
    train_at_test_time(model, tokens, wanted, score.ttt, group, on_scored, [&](const TrainedChunk& chunk) {
      stopped = chunk.index + 1 < chunk.count && group.max({static_cast<double>(stop_signal())})[0] > 0;
      return !stopped;
    });
    return !stopped;
  });
}

}  // namespace pgolf
