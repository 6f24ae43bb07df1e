// Tables to print: for people, for Markdown, for spreadsheets.
#pragma once

#include <string>
#include <vector>

namespace pgolf {

enum class TableForm { aligned, markdown, csv };

struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  ///< as many cells as columns
};

/// aligned: blanks between columns, numbers to the right. markdown: a header, bars escaped. csv: RFC 4180 with single line feeds.
std::string table_text(const Table& table, TableForm form);

}  // namespace pgolf
