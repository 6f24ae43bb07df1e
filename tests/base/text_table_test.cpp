#include "pgolf/base/text_table.h"

#include <gtest/gtest.h>

namespace pgolf {
namespace {

const TextTable sample{{{"name"}, {"bytes", true}, {"note"}}, {{"caf\u00e9", "7", ""}, {"a", "1,234", "x|y \"z\""}}};

TEST(TextTable, ColumnsAreAligned) {
  EXPECT_EQ(sample.aligned(),
            "name  bytes  note\n"
            "caf\u00e9      7\n"
            "a     1,234  x|y \"z\"\n");
}

TEST(TextTable, MarkdownEscapesBars) {
  EXPECT_EQ(sample.markdown(),
            "| name | bytes | note |\n"
            "| --- | ---: | --- |\n"
            "| caf\u00e9 | 7 |  |\n"
            "| a | 1,234 | x\\|y \"z\" |\n");
}

TEST(TextTable, CsvQuotesWhatNeedsIt) {
  EXPECT_EQ(sample.csv(),
            "name,bytes,note\n"
            "caf\u00e9,7,\n"
            "a,\"1,234\",\"x|y \"\"z\"\"\"\n");
}

}  // namespace
}  // namespace pgolf
