#include "pgolf/study/csv.h"

#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

namespace pgolf {
namespace {

TEST(Csv, Fields) {
  EXPECT_EQ(csv_field("plain text"), "plain text");
  EXPECT_EQ(csv_field("full*3,none"), "\"full*3,none\"");
  EXPECT_EQ(csv_field("a \"b\""), "\"a \"\"b\"\"\"");
  EXPECT_EQ(csv_field("a\nb"), "\"a\nb\"");
}

TEST(Csv, Cells) {
  EXPECT_EQ(cell(int64_t{17'059'912}), "17059912");
  EXPECT_EQ(cell(0.1 + 0.2), "0.30000000000000004");
  EXPECT_EQ(cell(std::numeric_limits<double>::quiet_NaN()), "");
  EXPECT_EQ(cell(std::optional<double>()), "");
  EXPECT_EQ(cell(std::optional<int64_t>(3)), "3");
}

TEST(Csv, Table) {
  CsvTable table({"a", "b"});
  EXPECT_TRUE(table.empty());
  table.add({"1", "x,y"});
  EXPECT_EQ(table.text(), "a,b\n1,\"x,y\"\n");
  EXPECT_EQ(table.column("b"), 2);
  EXPECT_THROW(table.add({"1"}), std::logic_error);
  EXPECT_THROW(table.column("c"), std::logic_error);
}

}  // namespace
}  // namespace pgolf
