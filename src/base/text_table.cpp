#include "pgolf/base/text_table.h"

#include <algorithm>

namespace pgolf {
namespace {

/// Characters, not bytes, of UTF-8.
size_t width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::vector<std::string> titles(const std::vector<TextTable::Column>& columns) {
  std::vector<std::string> out;
  for (const auto& column : columns) out.push_back(column.title);
  return out;
}

}  // namespace

std::string TextTable::aligned() const {
  std::vector<size_t> widths;
  for (const auto& column : columns) widths.push_back(width(column.title));
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  const auto add = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - width(row[i]), ' ');
      line += (i == 0 ? "" : "  ") + (columns[i].number ? padding + row[i] : row[i] + padding);
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  };
  add(titles(columns));
  for (const auto& row : rows) add(row);
  return out;
}

std::string TextTable::markdown() const {
  std::string out;
  const auto add = [&](const std::vector<std::string>& row) {
    out += "|";
    for (const std::string& text : row) {
      out += " ";
      for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
      out += " |";
    }
    out += "\n";
  };
  add(titles(columns));
  out += "|";
  for (const auto& column : columns) out += column.number ? " ---: |" : " --- |";
  out += "\n";
  for (const auto& row : rows) add(row);
  return out;
}

std::string TextTable::csv() const {
  std::string out;
  const auto add = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) out += ",";
      if (row[i].find_first_of(",\"\r\n") == std::string::npos) {
        out += row[i];
        continue;
      }
      out += "\"";
      for (const char c : row[i]) out += c == '"' ? std::string("\"\"") : std::string(1, c);
      out += "\"";
    }
    out += "\n";
  };
  add(titles(columns));
  for (const auto& row : rows) add(row);
  return out;
}

}  // namespace pgolf
