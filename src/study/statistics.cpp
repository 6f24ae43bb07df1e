#include "pgolf/study/statistics.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>

namespace pgolf {

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::optional<double> sample_deviation(const std::vector<double>& values) {
  if (values.size() < 2) return std::nullopt;
  const double center = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - center) * (value - center);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double position = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (position - static_cast<double>(below)) * (values[above] - values[below]);
}

double student_t_95(int freedom) {
  return boost::math::quantile(boost::math::students_t(freedom), 0.975);
}

PairedDifference paired_difference(const std::vector<double>& differences) {
  PairedDifference out;
  out.pairs = static_cast<int>(differences.size());
  if (differences.empty()) return out;
  out.mean = mean(differences);
  if (const auto deviation = sample_deviation(differences)) {
    const double half = student_t_95(out.pairs - 1) * *deviation / std::sqrt(out.pairs);
    out.low = out.mean - half;
    out.high = out.mean + half;
  }
  return out;
}

Verdict verdict(const PairedDifference& difference, double arm_mean, const std::vector<double>& baseline) {
  if (!difference.low || baseline.empty()) return Verdict::not_decided;
  const auto [low, high] = std::minmax_element(baseline.begin(), baseline.end());
  if (arm_mean >= *low && arm_mean <= *high) return Verdict::no_difference;
  if (*difference.high < 0 && arm_mean < *low) return Verdict::lower;
  if (*difference.low > 0 && arm_mean > *high) return Verdict::higher;
  return Verdict::not_decided;
}

std::string verdict_text(Verdict verdict) {
  switch (verdict) {
    case Verdict::not_decided:
      return "not decided";
    case Verdict::no_difference:
      return "no difference";
    case Verdict::lower:
      return "lower";
    case Verdict::higher:
      return "higher";
  }
  return {};
}

}  // namespace pgolf
