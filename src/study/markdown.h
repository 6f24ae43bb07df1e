// Tables of a report.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pgolf/base/format.h"
#include "pgolf/study/statistics.h"

namespace pgolf {

inline std::string markdown_row(const std::vector<std::string>& cells) {
  std::string out = "|";
  for (const auto& text : cells) {
    out += ' ';
    for (const char c : text) out += c == '|' || c == '*' ? std::string("\\") + c : std::string(1, c);
    out += " |";
  }
  return out + "\n";
}

/// Header and the line below it.
inline std::string markdown_head(const std::vector<std::string>& cells) {
  return markdown_row(cells) + markdown_row(std::vector<std::string>(cells.size(), "---"));
}

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
