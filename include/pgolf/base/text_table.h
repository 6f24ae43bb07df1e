// A small table of texts, for people (aligned columns), Markdown or CSV.
#pragma once

#include <string>
#include <vector>

namespace pgolf {

struct TextTable {
  struct Column {
    std::string title;
    bool number = false;  ///< aligned to the right
  };

  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  ///< as many texts each as there are columns

  std::string aligned() const;   ///< two blanks between columns, no line longer than its last text
  std::string markdown() const;  ///< a bar within a text is escaped
  std::string csv() const;       ///< RFC 4180, with "\n" at the ends of lines
};

}  // namespace pgolf
