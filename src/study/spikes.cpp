#include "pgolf/study/spikes.h"

#include <algorithm>
#include <cmath>
#include <deque>

#include "pgolf/study/statistics.h"

namespace pgolf {
namespace {

struct Expected {
  double median, deviation;
};

Expected expected(const std::deque<double>& window, const SpikeRule& rule) {
  std::vector<double> values(window.begin(), window.end());
  const double median = quantile(values, 0.5);
  for (double& value : values) value = std::abs(value - median);
  constexpr double normal = 1.4826;  // median absolute deviation -> standard deviation, for a normal distribution
  return {median, std::max(normal * quantile(values, 0.5), rule.floor * std::abs(median))};
}

}  // namespace

SpikeReport find_spikes(const std::vector<double>& losses, const SpikeRule& rule) {
  SpikeReport report;
  report.marked.assign(losses.size(), false);
  const auto size = static_cast<size_t>(rule.window);
  std::deque<double> window;
  std::optional<Expected> before;  // at the start of the current spike
  for (size_t i = 0; i < losses.size(); ++i) {
    if (!before && window.size() == size) {
      const Expected now = expected(window, rule);
      if (losses[i] > now.median + rule.factor * now.deviation) {
        before = now;
        report.spikes.push_back({.first = i, .height = 0, .recovery = std::nullopt});
      }
    }
    if (before) {
      Spike& spike = report.spikes.back();
      report.marked[i] = losses[i] > before->median + rule.factor * before->deviation;
      spike.height = std::max(spike.height, losses[i] - before->median);
      if (losses[i] <= before->median + before->deviation) {
        spike.recovery = i - spike.first;
        before.reset();
      } else if (i - spike.first >= size) {
        before.reset();
        window.assign(losses.begin() + static_cast<std::ptrdiff_t>(i + 1 - size),
                      losses.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        continue;
      }
    }
    window.push_back(losses[i]);
    if (window.size() > size) window.pop_front();
  }
  return report;
}

}  // namespace pgolf
