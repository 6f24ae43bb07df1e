#include "pgolf/base/table.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

using Cells = std::vector<std::string>;

/// UTF-8 code points, which equal terminal columns for the text in these tables.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

/// text with `by` before each character of `these`.
std::string escaped(const std::string& text, const std::string& these, char by) {
  std::string out;
  for (const char c : text) {
    if (these.find(c) != these.npos) out += by;
    out += c;
  }
  return out;
}

std::string markdown_line(const Cells& cells) {
  std::string out = "|";
  for (const auto& text : cells) out += " " + escaped(printable(text, text.npos), "\\|*", '\\') + " |";
  return out + "\n";
}

std::string csv_line(const Cells& cells) {
  std::string out;
  for (const auto& text : cells) {
    if (&text != cells.data()) out += ",";
    out += text.find_first_of(",\"\r\n") == text.npos ? text : "\"" + escaped(text, "\"", '"') + "\"";
  }
  return out + "\n";
}

Cells titles(const std::vector<Table::Column>& columns) {
  Cells out;
  for (const auto& column : columns) out.push_back(column.title);
  return out;
}

}  // namespace

void Table::add(Cells cells) {
  if (cells.size() != columns_.size()) throw std::logic_error("the row's number of cells differs from the number of columns");
  rows_.push_back(std::move(cells));
}

int Table::column(const std::string& title) const {
  const auto found = std::find_if(columns_.begin(), columns_.end(), [&](const Column& column) { return column.title == title; });
  if (found == columns_.end()) throw std::logic_error("no column " + title);
  return static_cast<int>(found - columns_.begin()) + 1;
}

std::string Table::aligned() const {
  std::vector<Cells> lines{titles(columns_)};
  lines.insert(lines.end(), rows_.begin(), rows_.end());
  std::vector<size_t> widths(columns_.size());
  for (auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      line[i] = printable(line[i], line[i].npos);
      widths[i] = std::max(widths[i], width(line[i]));
    }
  }
  std::string out;
  for (const auto& line : lines) {
    std::string text;
    for (size_t i = 0; i < line.size(); ++i) {
      const std::string padding(widths[i] - width(line[i]), ' ');
      text += (i == 0 ? "" : "  ") + (columns_[i].number ? padding + line[i] : line[i] + padding);
    }
    out += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

std::string Table::markdown() const {
  std::string out = markdown_line(titles(columns_)) + "|";
  for (const auto& column : columns_) out += column.number ? " ---: |" : " --- |";
  out += "\n";
  for (const auto& row : rows_) out += markdown_line(row);
  return out;
}

std::string Table::csv() const {
  std::string out = csv_line(titles(columns_));
  for (const auto& row : rows_) out += csv_line(row);
  return out;
}

std::string cell(int64_t value) {
  return std::to_string(value);
}

std::string cell(double value) {
  return std::isfinite(value) ? python_float(value) : std::string();
}

}  // namespace pgolf
