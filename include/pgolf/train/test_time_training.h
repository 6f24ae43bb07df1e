// Test-time training: a model learns from the text it is being scored on, from each part after that part's score.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "pgolf/config/run_config.h"
#include "pgolf/dist/group.h"
#include "pgolf/validation/sliding.h"

namespace pgolf {

/// What a chunk of the stream did to the model, as every rank sees it.
struct TrainedChunk {
  int64_t index = 0, count = 0;         ///< of how many chunks
  int64_t windows = 0;                  ///< scored before training
  double lr = 0;                        ///< 0 in the last chunk
  std::vector<double> losses = {};      ///< of the training steps; of this rank's share of the sequences
  std::vector<double> grad_norms = {};  ///< before clipping
};

struct TestTimeWindows {
  int64_t seq_len = 1024, stride = 64;
  int64_t per_batch = 32;  ///< windows, and sequences of a training step, over all ranks
};

/// Scores the stream's windows (plan_windows), chunk by chunk: a window belongs to the chunk of ttt.chunk_tokens targets that its
/// first scored target is in. After the windows of a chunk, unless it is the last or has none, the model trains for ttt.epochs on
/// the chunk's whole sequences of seq_len, with their mean loss, gradients clipped to a norm of 1, and SGD with momentum over all
/// parameters, whose buffers live through all chunks; lr = ttt.lr * (1 + cos(pi * chunk / (chunks - 1))) / 2.
///
/// Each rank scores and trains on its share; on_scored sees this rank's windows, in stream order. All ranks need the same model
/// and end with the same, trained, one. on_chunk is called after each chunk; false, then on all ranks, ends it there.
/// Error(non_finite) if a loss or a gradient is not finite.
void train_at_test_time(Gpt& model, std::span<const uint16_t> tokens, const TestTimeWindows& windows, const TestTimeTraining& ttt,
                        Group& group, const OnScored& on_scored, const std::function<bool(const TrainedChunk&)>& on_chunk = {});

}  // namespace pgolf
