// Spikes of a training loss: sudden rises above what the steps before led to expect.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace pgolf {

struct SpikeRule {
  int window = 32;      ///< steps before the judged one whose median is what is expected; the first `window` are not judged
  double factor = 8;    ///< how many robust standard deviations (1.4826 * median absolute deviation) above that
  double floor = 0.01;  ///< of the median: the least that counts as one robust standard deviation
};

struct Spike {
  size_t first = 0;                ///< index of its first loss
  double height = 0;               ///< largest loss - expected loss at its beginning
  std::optional<size_t> recovery;  ///< steps until the loss is within one robust deviation of that again; nothing: never
};

struct SpikeReport {
  std::vector<Spike> spikes;
  std::vector<bool> marked;  ///< for each loss, whether it lies above the threshold
};

/// losses: one per step, in order. While a spike lasts, what is expected stays what it was at its beginning; one that
/// outlasts `window` steps has not recovered, and the level that it reached is what is expected from then on.
/// A loss that falls steeply makes the deviation large, so nothing is called a spike there that merely falls less.
SpikeReport find_spikes(const std::vector<double>& losses, const SpikeRule& rule = {});

}  // namespace pgolf
