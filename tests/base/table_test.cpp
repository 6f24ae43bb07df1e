#include "pgolf/base/table.h"

#include <gtest/gtest.h>

namespace pgolf::testing {
namespace {

const Table kTable{{"name", "loss"}, {{"a|b, \"c\"", "3.25"}, {"größer", "12"}}};

TEST(TableText, AlignsNumbersToTheRight) {
  EXPECT_EQ(table_text(kTable, TableForm::aligned), "name      loss\na|b, \"c\"  3.25\ngrößer      12\n");
}

TEST(TableText, EscapesForMarkdownAndCsv) {
  EXPECT_EQ(table_text(kTable, TableForm::markdown),
            "| name | loss |\n| --- | --- |\n| a\\|b, \"c\" | 3.25 |\n| größer | 12 |\n");
  EXPECT_EQ(table_text(kTable, TableForm::csv), "name,loss\n\"a|b, \"\"c\"\"\",3.25\ngrößer,12\n");
}

TEST(TableText, WithoutRowsIsItsHead) {
  EXPECT_EQ(table_text({{"a", "b"}, {}}, TableForm::aligned), "a  b\n");
}

}  // namespace
}  // namespace pgolf::testing
