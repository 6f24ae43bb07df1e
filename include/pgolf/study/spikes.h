// Spikes of a training loss: sudden rises above the level of the preceding steps.
#pragma once

#include <optional>
#include <vector>

namespace pgolf {

struct SpikeRule {
  int window = 32;      ///< preceding steps whose median is the expected loss; the first `window` steps are not judged
  double factor = 8;    ///< threshold above it, in robust standard deviations (1.4826 * median absolute deviation)
  double floor = 0.01;  ///< lower bound of the robust standard deviation, as a fraction of the median
};

struct Spike {
  size_t first = 0;                ///< index of its first loss
  double height = 0;               ///< largest loss - expected loss at the start of the spike
  std::optional<size_t> recovery;  ///< steps until within one robust deviation of that again; nullopt: never
};

struct SpikeReport {
  std::vector<Spike> spikes;
  std::vector<bool> marked;  ///< for each loss, whether it lies above the threshold
};

/// losses: one per step, in order. During a spike the expected loss stays that of its start; a spike longer than
/// `window` steps has not recovered, and its level becomes the expected one.
/// A steeply falling loss has a large deviation, so a slower fall there is not a spike.
SpikeReport find_spikes(const std::vector<double>& losses, const SpikeRule& rule = {});

}  // namespace pgolf
