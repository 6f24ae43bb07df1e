#include "pgolf/base/table.h"

#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "pgolf/base/format.h"

namespace pgolf {
namespace {

Table sample() {
  Table table({"name", {"bytes", true}, "note"});
  table.add({"größer", "7", ""});
  table.add({"±1", "1,234", "x|y \"z\""});
  return table;
}

Table holding(const std::string& text) {
  Table table({"a"});
  table.add({text});
  return table;
}

TEST(Table, AlignsByCharactersWithoutTrailingSpaces) {
  EXPECT_EQ(sample().aligned(),
            "name    bytes  note\n"
            "größer      7\n"
            "±1      1,234  x|y \"z\"\n");
}

TEST(Table, MarkdownRightAlignsNumbers) {
  EXPECT_EQ(sample().markdown(),
            "| name | bytes | note |\n"
            "| --- | ---: | --- |\n"
            "| größer | 7 |  |\n"
            "| ±1 | 1,234 | x\\|y \"z\" |\n");
}

TEST(Table, CsvQuotesWhatNeedsIt) {
  EXPECT_EQ(sample().csv(), "name,bytes,note\ngrößer,7,\n±1,\"1,234\",\"x|y \"\"z\"\"\"\n");
  for (const char* plain : {"plain text", "full*3;none", "", "a\\b"}) EXPECT_EQ(holding(plain).csv(), format("a\n%s\n", plain));
  for (const char* quoted : {"full*3,none", "a\nb", "a\rb"}) EXPECT_EQ(holding(quoted).csv(), format("a\n\"%s\"\n", quoted));
}

TEST(Table, NothingInACellIsMarkup) {
  EXPECT_EQ(holding("full*3 \\| x").markdown(), "| a |\n| --- |\n| full\\*3 \\\\\\| x |\n");
}

TEST(Table, CellsCannotBreakLinesOrControlTheTerminal) {
  const Table table = holding("x\n\x1b[2Jy\t");
  EXPECT_EQ(table.aligned(), "a\nx??[2Jy?\n");
  EXPECT_EQ(table.markdown(), "| a |\n| --- |\n| x??[2Jy? |\n");
  EXPECT_EQ(holding(std::string(500, 'x')).aligned(), "a\n" + std::string(500, 'x') + "\n") << "nothing is truncated";
}

TEST(Table, WithoutRowsIsItsHeader) {
  const Table table({"a", "b"});
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(table.aligned(), "a  b\n");
  EXPECT_EQ(table.markdown(), "| a | b |\n| --- | --- |\n");
  EXPECT_EQ(table.csv(), "a,b\n");
}

TEST(Table, RowsFitColumnsThatHaveNumbers) {
  Table table({"a", "b"});
  EXPECT_THROW(table.add({"1"}), std::logic_error);
  EXPECT_THROW(table.add({"1", "2", "3"}), std::logic_error);
  EXPECT_TRUE(table.empty());
  table.add({"1", "2"});
  EXPECT_FALSE(table.empty());
  EXPECT_EQ(table.column("b"), 2);
  EXPECT_THROW(table.column("c"), std::logic_error);
}

TEST(Table, Cells) {
  EXPECT_EQ(cell(int64_t{17'059'912}), "17059912");
  EXPECT_EQ(cell(0.1 + 0.2), "0.30000000000000004");
  EXPECT_EQ(cell(std::numeric_limits<double>::quiet_NaN()), "");
  EXPECT_EQ(cell(std::optional<double>()), "");
  EXPECT_EQ(cell(std::optional<int64_t>(3)), "3");
}

}  // namespace
}  // namespace pgolf
