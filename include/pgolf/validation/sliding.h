// Windows that overlap, so that targets are scored with more context.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <vector>

#include "pgolf/data/byte_counts.h"
#include "pgolf/model/gpt.h"
#include "pgolf/validation/bpb.h"

namespace pgolf {

/// A forward pass over the inputs begin .. begin + length - 1 of a stream, whose targets are the next tokens. The
/// window's targets from first_scored on are scored.
struct ScoredWindow {
  int64_t begin = 0, length = 0, first_scored = 0;
  int64_t scored() const { return length - first_scored; }
};

/// Windows that score each of a stream's targets exactly once: they start at 0, stride, 2 stride, ...; the first scores all of
/// its targets, the others their last `stride`, and the last ends with the stream, so it may be shorter. 1 <= stride <= seq_len,
/// targets >= 1.
std::vector<ScoredWindow> plan_windows(int64_t targets, int64_t seq_len, int64_t stride);

/// Called with a window and its scored targets' losses, in nats.
using OnScored = std::function<void(const ScoredWindow&, std::span<const float>)>;

/// Scores windows of a stream in order, up to per_batch of one form in a forward pass, on the model's device and without
/// gradients. Error(non_finite) if a loss is not finite.
void score_windows(Gpt& model, std::span<const uint16_t> tokens, std::span<const ScoredWindow> windows, int64_t per_batch,
                   const OnScored& on_scored);

/// Adds a window's losses, and its targets' tokens and bytes.
void add_window(EvalSums& sums, std::span<const uint16_t> tokens, const ByteCounts& byte_counts, const ScoredWindow& window,
                std::span<const float> losses);

}  // namespace pgolf
