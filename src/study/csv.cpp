#include "pgolf/study/csv.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "pgolf/base/format.h"

namespace pgolf {

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

std::string cell(int64_t value) {
  return std::to_string(value);
}

std::string cell(double value) {
  return std::isfinite(value) ? python_float(value) : std::string();
}

CsvTable::CsvTable(std::vector<std::string> columns) : columns_(std::move(columns)) {
  line(columns_);
}

void CsvTable::add(const std::vector<std::string>& cells) {
  if (cells.size() != columns_.size()) throw std::logic_error("a row has another number of cells than the table has columns");
  line(cells);
  ++rows_;
}

int CsvTable::column(const std::string& name) const {
  const auto found = std::find(columns_.begin(), columns_.end(), name);
  if (found == columns_.end()) throw std::logic_error("no column " + name);
  return static_cast<int>(found - columns_.begin()) + 1;
}

void CsvTable::line(const std::vector<std::string>& cells) {
  for (size_t i = 0; i < cells.size(); ++i) text_ += (i == 0 ? "" : ",") + csv_field(cells[i]);
  text_ += '\n';
}

}  // namespace pgolf
