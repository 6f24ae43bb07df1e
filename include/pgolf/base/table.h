// Tables of text: for people, for Markdown, for spreadsheets.
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
    bool number;  ///< to the right
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// As many cells as there are columns.
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  /// Number of a column that must exist, from 1, as gnuplot counts.
  int column(const std::string& title) const;

  // Control characters in the first two become '?', so that a cell can neither break its line nor steer the terminal.
  std::string aligned() const;   ///< two blanks between columns, no line longer than its last text
  std::string markdown() const;  ///< what would be markup in a cell is escaped
  std::string csv() const;       ///< RFC 4180, but lines end in a single line feed

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Cells: whole numbers as they are, others by their shortest text that reads back to the same; what is not known is empty.
std::string cell(int64_t value);
std::string cell(double value);
template <class T>
std::string cell(const std::optional<T>& value) {
  return value ? cell(*value) : std::string();
}

}  // namespace pgolf
