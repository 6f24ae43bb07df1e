// The statistics of a sweep: few seeds, paired.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace pgolf {

/// values must not be empty.
double mean(const std::vector<double>& values);

/// With n - 1 in the denominator; nullopt for fewer than two values.
std::optional<double> sample_deviation(const std::vector<double>& values);

/// Quantile q of 0 .. 1, linear between neighbors (type 7 of Hyndman and Fan). values must not be empty.
double quantile(std::vector<double> values, double q);

/// Half the width of the central 95 % of Student's t distribution; freedom >= 1.
double student_t_95(int freedom);

/// A difference between two arms over the seeds that both have.
struct PairedDifference {
  int pairs = 0;
  double mean = 0;  ///< arm - baseline; 0 without pairs
  /// Ends of the 95 % confidence interval of the mean; nullopt with fewer than two pairs.
  std::optional<double> low, high;
};

PairedDifference paired_difference(const std::vector<double>& differences);

enum class Verdict { not_decided, no_difference, lower, higher };

/// no_difference: the arm's mean lies within the range of the baseline's seeds. Outside it, lower or higher if the interval
/// also excludes 0, otherwise not_decided.
Verdict verdict(const PairedDifference& difference, double arm_mean, const std::vector<double>& baseline);

/// "not decided", "no difference", "lower", "higher".
std::string verdict_text(Verdict verdict);

}  // namespace pgolf
