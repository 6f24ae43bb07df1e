#include "pgolf/base/table.h"

#include <algorithm>

namespace pgolf {
namespace {

using Cells = std::vector<std::string>;

/// Code points, which is what a terminal's columns come to for the text of these tables.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789.,+-±e %") == std::string::npos;
}

std::string aligned(const Table& table) {
  std::vector<size_t> widths;
  std::vector<bool> numbers;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    widths.push_back(width_of(table.columns[i]));
    numbers.push_back(!table.rows.empty());
    for (const auto& row : table.rows) {
      widths[i] = std::max(widths[i], width_of(row[i]));
      if (!row[i].empty() && !is_number(row[i])) numbers[i] = false;
    }
  }
  const auto line = [&](const Cells& cells) {
    std::string out;
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string pad(widths[i] - width_of(cells[i]), ' ');
      out += (i == 0 ? "" : "  ") + (numbers[i] ? pad + cells[i] : cells[i] + pad);
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out + "\n";
  };
  std::string out = line(table.columns);
  for (const auto& row : table.rows) out += line(row);
  return out;
}

std::string replaced(const std::string& text, char what, const char* by) {
  std::string out;
  for (const char c : text) out += c == what ? std::string(by) : std::string(1, c);
  return out;
}

std::string markdown_line(const Cells& cells) {
  std::string out = "|";
  for (const auto& cell : cells) out += " " + replaced(cell, '|', "\\|") + " |";
  return out + "\n";
}

std::string csv_line(const Cells& cells) {
  std::string out;
  for (size_t i = 0; i < cells.size(); ++i) {
    const bool plain = cells[i].find_first_of(",\"\r\n") == std::string::npos;
    out += (i == 0 ? "" : ",") + (plain ? cells[i] : '"' + replaced(cells[i], '"', "\"\"") + '"');
  }
  return out + "\n";
}

}  // namespace

std::string table_text(const Table& table, TableForm form) {
  if (form == TableForm::aligned) return aligned(table);
  const bool markdown = form == TableForm::markdown;
  std::string out =
      markdown ? markdown_line(table.columns) + markdown_line(Cells(table.columns.size(), "---")) : csv_line(table.columns);
  for (const auto& row : table.rows) out += markdown ? markdown_line(row) : csv_line(row);
  return out;
}

}  // namespace pgolf
