// Loss by how far into its window a target stands.
#pragma once

#include <vector>

#include "pgolf/eval/bpb.h"

namespace pgolf {

/// -log softmax(logits)[target] in float32. logits [N, V] float32 or bfloat16, targets [N] int64 -> [N] float32.
at::Tensor token_losses(const at::Tensor& logits, const at::Tensor& targets);

/// Targets at positions from .. to-1 of their windows; position 0 is the one that has a single token before it.
struct PositionBucket {
  int64_t from = 0, to = 0;
  double loss = 0;     ///< mean cross-entropy, nats
  int64_t tokens = 0;  ///< targets
};

struct PositionLoss {
  EvalResult total;
  double standard_error = 0;  ///< of total.val_loss: sample deviation of the windows' means / sqrt(windows); NaN for one window
  std::vector<PositionBucket> buckets;  ///< 0-1, 1-2, 2-4, 4-8, ... up to the window's length
};

/// Scores what evaluate() scores, token by token: logits in the compute dtype, losses in float32, sums in float64. The tokens'
/// losses of all buckets add up to the total. In bfloat16 the logits are rounded before the softmax, which evaluate() avoids
/// where it can, so the two differ a little there.
PositionLoss measure_positions(Gpt& model, const ValidationSet& validation, const ByteCounts& byte_counts,
                               const EvalOptions& options);

}  // namespace pgolf
