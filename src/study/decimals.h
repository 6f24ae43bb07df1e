// Numbers of a report.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pgolf/base/format.h"
#include "pgolf/study/statistics.h"

namespace pgolf {

inline std::string decimals(const std::optional<double>& value, int places) {
  return value ? format("%.*f", places, *value) : "";
}

/// "3.2104 ± 0.0031", without the deviation for a single value.
inline std::string mean_and_deviation(const std::vector<double>& values, int places) {
  if (values.empty()) return "";
  const auto deviation = sample_deviation(values);
  return decimals(mean(values), places) + (deviation ? " ± " + decimals(deviation, places) : "");
}

}  // namespace pgolf
