// Comma-separated tables (RFC 4180, lines end in a single line feed).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pgolf {

/// In quotes if it holds a comma, a quote or a line break.
std::string csv_field(const std::string& text);

/// Cells: whole numbers as they are, others by their shortest text that reads back to the same; what is not known is empty.
std::string cell(int64_t value);
std::string cell(double value);
template <class T>
std::string cell(const std::optional<T>& value) {
  return value ? cell(*value) : std::string();
}

class CsvTable {
 public:
  explicit CsvTable(std::vector<std::string> columns);

  /// As many cells as there are columns.
  void add(const std::vector<std::string>& cells);
  /// From 1, as gnuplot counts. The column must exist.
  int column(const std::string& name) const;
  bool empty() const { return rows_ == 0; }
  const std::string& text() const { return text_; }

 private:
  void line(const std::vector<std::string>& cells);

  std::vector<std::string> columns_;
  std::string text_;
  size_t rows_ = 0;
};

}  // namespace pgolf
