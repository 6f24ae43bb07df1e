#include "pgolf/base/text.h"

#include <gtest/gtest.h>

namespace pgolf {
namespace {

TEST(Text, SplitKeepsEmptyParts) {
  EXPECT_EQ(split("a,b", ','), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(split(",a,,b,", ','), (std::vector<std::string>{"", "a", "", "b", ""}));
  EXPECT_EQ(split("", ','), (std::vector<std::string>{""}));
}

TEST(Text, TrimRemovesWhitespaceAtBothEnds) {
  EXPECT_EQ(trim(" \t a b \r\n"), "a b");
  EXPECT_EQ(trim("ab"), "ab");
  EXPECT_EQ(trim(" \n "), "");
  EXPECT_EQ(trim(""), "");
}

TEST(Text, EditDistanceCountsInsertionsDeletionsChangesAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("ROPE_DIM", "ROPE_DIMS"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("abcd", "acbd"), 1u) << "a swap of neighbors is one edit";
  EXPECT_EQ(edit_distance("ca", "abc"), 3u) << "swapped characters are not edited again";
}

TEST(Text, JoinKeepsEmptyParts) {
  EXPECT_EQ(join({"a", "", "b"}, ", "), "a, , b");
  EXPECT_EQ(join({"a"}, ", "), "a");
  EXPECT_EQ(join({}, ", "), "");
}

TEST(Text, ValidUtf8EndsAtTheFirstInvalidSequence) {
  for (const char* valid : {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_EQ(valid_utf8_bytes(valid), std::string_view(valid).size()) << valid;
  }
  // A lone continuation, a lone lead, overlong forms, a surrogate, beyond U+10FFFF, cut off.
  for (const char* invalid :
       {"\x80", "\xff", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82",
        "\xc3"
        "a"}) {
    EXPECT_EQ(valid_utf8_bytes(std::string("ab") + invalid), 2u);
  }
}

TEST(Text, PrintableStaysOneHarmlessLine) {
  EXPECT_EQ(printable("a\nb\x1b[1m\x7f"), "a?b?[1m?");
  EXPECT_EQ(printable("caf\u00e9"), "caf\u00e9");
  EXPECT_EQ(printable("caf\xe9 \xc2\x9b\x31m\xc2"), "caf? ?1m?");
  EXPECT_EQ(printable("caf\u00e9", 4), "caf...");
  EXPECT_EQ(printable(std::string(300, 'x')), std::string(200, 'x') + "...");
  EXPECT_EQ(printable("abc", 3), "abc");
  EXPECT_EQ(printable("abcd", 3), "abc...");
}

TEST(Text, NearestNameIsTheNearestWithinTheLimit) {
  const std::vector<std::string> names{"MATRIX_LR", "SCALAR_LR", "ROPE_DIMS"};
  EXPECT_EQ(nearest_name("ROPE_DIM", names, 2), "ROPE_DIMS");
  EXPECT_EQ(nearest_name("SCALER_LR", names, 2), "SCALAR_LR");
  EXPECT_EQ(nearest_name("MATRIX_LR", names, 0), "MATRIX_LR");
  EXPECT_EQ(nearest_name("ROPE_DIM", names, 0), "");
  EXPECT_EQ(nearest_name("COMPLETELY_ELSE", names, 3), "");
  EXPECT_EQ(nearest_name("X", {}, 3), "");
}

}  // namespace
}  // namespace pgolf
