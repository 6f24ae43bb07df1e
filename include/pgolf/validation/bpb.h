// Validation loss and bits per byte.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "pgolf/data/byte_counts.h"
#include "pgolf/data/validation_set.h"
#include "pgolf/model/gpt.h"

namespace pgolf {

struct EvalResult {
  double val_loss = 0;  ///< mean cross-entropy of the targets, nats
  double val_bpb = 0;   ///< bits_per_byte()
  int64_t tokens = 0;   ///< targets scored
  int64_t bytes = 0;    ///< bytes of those targets' text (ByteCounts)
};

/// loss / ln 2 * tokens / bytes, for a mean loss in nats of targets with that many bytes of text.
double bits_per_byte(double loss, int64_t tokens, int64_t bytes);

struct EvalOptions {
  int seq_len = 1024;           ///< every target is scored once, with the preceding tokens of its window as context
  int64_t batch_sequences = 1;  ///< windows per forward pass
  at::Device device = at::kCPU;
  int rank = 0, world_size = 1;  ///< whose share of the windows: sequences * rank / world_size up to the next rank's
  /// Called after each batch with the number of windows done and the total; may be empty.
  std::function<void(int64_t, int64_t)> progress;
  /// Asked before each batch; true ends it with what there is so far. May be empty.
  std::function<bool()> stop;
};

/// What a result is made of; sums of several shares are the sums of the whole.
struct EvalSums {
  double loss = 0;  ///< of all targets, nats
  int64_t tokens = 0, bytes = 0;
  EvalResult result() const;
};

/// Scores a share of a validation set made for the same seq_len. Batch means are float32, as in upstream's eval_val;
/// they are weighted by their token counts and summed in float64. Leaves the model's training mode as it is.
EvalSums evaluate_share(Gpt& model, const ValidationSet& validation, const ByteCounts& byte_counts, const EvalOptions& options);

/// The whole of it, in one process.
inline EvalResult evaluate(Gpt& model, const ValidationSet& validation, const ByteCounts& byte_counts,
                           const EvalOptions& options) {
  return evaluate_share(model, validation, byte_counts, options).result();
}

}  // namespace pgolf
