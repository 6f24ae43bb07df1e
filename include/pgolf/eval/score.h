// Every token's loss on a stream, with non-overlapping or sliding windows, and summaries of them.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "pgolf/data/byte_counts.h"
#include "pgolf/model/gpt.h"
#include "pgolf/validation/bpb.h"
#include "pgolf/validation/sliding.h"

namespace pgolf {

struct ScoreOptions {
  int64_t seq_len = 1024, stride = 1024;
  int64_t batch_tokens = 65'536;  ///< per forward pass, or one window
  /// Called with windows done and in total, by one thread at a time; may be empty.
  std::function<void(int64_t, int64_t)> progress;
};

/// Losses on a stream of n + 1 tokens; index i is for target i, the token at i + 1.
struct StreamScore {
  std::vector<float> losses;       ///< nats
  std::vector<int32_t> positions;  ///< position of the target in the window: tokens before it, minus one

  explicit StreamScore(size_t targets) : losses(targets), positions(targets) {}
  void set(const ScoredWindow& window, std::span<const float> scored);
};

/// models: copies of one, each on its own device or at least in its own thread; they take batches in turn, so the result does not
/// depend on their number. Error(non_finite) if a loss is not finite.
StreamScore score_stream(std::vector<Gpt>& models, std::span<const uint16_t> tokens, const ScoreOptions& options);

inline StreamScore score_stream(Gpt& model, std::span<const uint16_t> tokens, const ScoreOptions& options) {
  std::vector<Gpt> models{model};
  return score_stream(models, tokens, options);
}

/// Sums in float64.
struct ScoreSummary {
  EvalResult total;
  /// Standard errors of these ratios of sums over chunks of seq_len targets (delta method); NaN for a single chunk.
  double stderr_loss = 0, stderr_bpb = 0;
};
ScoreSummary summarize(const StreamScore& score, std::span<const uint16_t> tokens, const ByteCounts& byte_counts,
                       int64_t seq_len);

/// Targets at positions from .. to-1: 0-1, 1-2, 2-4, 4-8, ...
struct PositionBucket {
  int64_t from = 0, to = 0, tokens = 0;
  double loss = 0;  ///< mean, nats
};
std::vector<PositionBucket> by_position(const StreamScore& score, int64_t seq_len);

/// A document: from its BOS (or the stream's beginning) to the token before the next BOS.
struct DocumentLoss {
  int64_t begin = 0, tokens = 0, bytes = 0;  ///< of its targets; begin: index of its first target
  double loss = 0, bpb = 0;
};
/// In stream order; documents without text are left out.
std::vector<DocumentLoss> by_document(const StreamScore& score, std::span<const uint16_t> tokens, const ByteCounts& byte_counts,
                                      int bos_id);

/// Name of the published validation split with these numbers of scored targets and bytes; empty if unknown.
std::string known_split(int64_t tokens, int64_t bytes);

}  // namespace pgolf
