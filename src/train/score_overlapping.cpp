#include "score_overlapping.h"

#include <chrono>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/train/test_time_training.h"
#include "run_log.h"

namespace pgolf {
namespace {

constexpr int64_t kWindowsPerBatch = 32;

/// Sums what score(on_scored) passes on, over all ranks.
void write_sums(Trainer& trainer, RecordFile* records, const char* name, int64_t windows,
                const std::function<void(const OnScored&)>& score) {
  const auto start = std::chrono::steady_clock::now();
  Progress bar(name, windows);
  EvalSums share;
  int64_t done = 0;
  score([&](const ScoredWindow& window, std::span<const float> losses) {
    add_window(share, trainer.validation().tokens(), trainer.byte_counts(), window, losses);
    bar.update(++done);
  });
  bar.finish();
  Group& group = trainer.group();
  const auto sums = group.sum({share.loss, static_cast<double>(share.tokens), static_cast<double>(share.bytes)});
  const EvalResult result = EvalSums{sums[0], static_cast<int64_t>(sums[1]), static_cast<int64_t>(sums[2])}.result();
  const double eval_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  if (records != nullptr) write_score(*records, name, result, eval_ms);
}

}  // namespace

void score_overlapping(Trainer& trainer, RecordFile* records) {
  const ScoreConfig& score = trainer.config().score;
  if (score.eval_stride == 0) return;
  Gpt& model = trainer.model();
  Group& group = trainer.group();
  const auto tokens = trainer.validation().tokens();
  const int64_t seq_len = trainer.config().data.train_seq_len;
  const auto windows = plan_windows(trainer.validation().targets(), seq_len, score.eval_stride);
  const auto [first, end] = group.share(static_cast<int64_t>(windows.size()));
  const auto share = std::span(windows).subspan(static_cast<size_t>(first), static_cast<size_t>(end - first));
  write_sums(trainer, records, "sliding_window", static_cast<int64_t>(share.size()),
             [&](const OnScored& on_scored) { score_windows(model, tokens, share, kWindowsPerBatch, on_scored); });
  if (!score.ttt.enabled) return;
  if (group.is_master()) {
    const int64_t chunks = (trainer.validation().targets() + score.ttt.chunk_tokens - 1) / score.ttt.chunk_tokens;
    log::info(
        format("ttt:start chunks:%lld ttt_lr:%g ttt_epochs:%d", static_cast<long long>(chunks), score.ttt.lr, score.ttt.epochs));
  }
  write_sums(trainer, records, "ttt", static_cast<int64_t>(share.size()), [&](const OnScored& on_scored) {
    const TestTimeWindows wanted{.seq_len = seq_len, .stride = score.eval_stride, .per_batch = kWindowsPerBatch};
    train_at_test_time(model, tokens, wanted, score.ttt, group, on_scored);
  });
}

}  // namespace pgolf
