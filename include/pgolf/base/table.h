// Text tables: aligned, as Markdown or as CSV.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pgolf {

class Table {
 public:
  struct Column {
    Column(std::string text, bool is_number = false) : title(std::move(text)), number(is_number) {}
    Column(const char* text, bool is_number = false) : title(text), number(is_number) {}

    std::string title;
    bool number;  ///< right-aligned
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// Needs one cell per column.
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  /// 1-based number of a column, as in gnuplot; the column must exist.
  int column(const std::string& title) const;

  // In the first two, control characters become '?', so that a cell can neither break lines nor control the terminal.
  std::string aligned() const;   ///< two spaces between columns, no trailing spaces
  std::string markdown() const;  ///< markup in cells is escaped
  std::string csv() const;       ///< RFC 4180, but lines end in a single line feed

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Cell text: integers as is, other numbers as the shortest text that round-trips, missing values as empty text.
std::string cell(int64_t value);
std::string cell(double value);
template <class T>
std::string cell(const std::optional<T>& value) {
  return value ? cell(*value) : std::string();
}

}  // namespace pgolf
