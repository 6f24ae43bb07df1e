// Statistics of measurements.
#pragma once

#include <cmath>
#include <numeric>
#include <span>

namespace pgolf {

/// Sample deviation of the values / sqrt(their number); NaN for a single one.
inline double standard_error_of_mean(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / (n - 1) / n);
}

}  // namespace pgolf
