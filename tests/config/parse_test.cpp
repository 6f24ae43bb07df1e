#include "pgolf/config/parse.h"

#include <limits>

#include "config_testing.h"
#include "pgolf/base/files.h"
#include "pgolf/config/config_file.h"

namespace pgolf {
namespace {

using testing::error_of;

TEST(Parse, Integers) {
  EXPECT_EQ(parse_integer("524288"), 524'288);
  EXPECT_EQ(parse_integer("524_288"), 524'288);
  EXPECT_EQ(parse_integer(" +7 "), 7);
  EXPECT_EQ(parse_integer("-3"), -3);
  EXPECT_EQ(parse_integer("007"), 7);
  EXPECT_EQ(parse_integer("9223372036854775807"), std::numeric_limits<int64_t>::max());
  for (const char* text : {"",     " ",  "12x",  "x12", "1 2", "1.0", "1e3",
                           "0x10", "+",  "-",    "+-3", "-+3", "++3", "--3",
                           "_1",   "1_", "1__2", "-_1", "nan", "inf", "9223372036854775808"}) {
    EXPECT_FALSE(parse_integer(text)) << text;
  }
}

TEST(Parse, Numbers) {
  EXPECT_EQ(parse_number("0.04"), 0.04);
  EXPECT_EQ(parse_number("1e-3"), 1e-3);
  EXPECT_EQ(parse_number("1E+3"), 1e3);
  EXPECT_EQ(parse_number(".5"), 0.5);
  EXPECT_EQ(parse_number("5."), 5.0);
  EXPECT_EQ(parse_number("1_000.5"), 1000.5);
  EXPECT_EQ(parse_number("-2"), -2.0);
  for (const char* text :
       {"", "12x", "nan", "NaN", "inf", "-inf", "infinity", "1e999", "0x1p3", "1,5", "+-1", "._5", "e3", "1e"}) {
    EXPECT_FALSE(parse_number(text)) << text;
  }
}

TEST(Parse, Booleans) {
  for (const char* text : {"1", "true", "True", "on", "YES"}) EXPECT_EQ(parse_boolean(text), true) << text;
  for (const char* text : {"0", "false", "False", "off", "no"}) EXPECT_EQ(parse_boolean(text), false) << text;
  for (const char* text : {"", "2", "y", "t", "tru", "-1", "01"}) EXPECT_FALSE(parse_boolean(text)) << text;
}

TEST(ConfigFile, LinesCommentsAndQuotes) {
  const auto entries = parse_config_text(
      "\xef\xbb\xbf# heading\n\nA=1\n  B = two words # comment\r\nC=x#y\nD=\"a # \\\"b\\\" \\\\ \\n\" # end\nE='it \\n "
      "is'\nF=\nG= # only a "
      "comment\nH=a=b",
      "f.env");
  ASSERT_EQ(entries.size(), 8u);
  const std::vector<std::string> values = {"1", "two words", "x#y", "a # \"b\" \\ \n", "it \\n is", "", "", "a=b"};
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(entries[i].key, std::string(1, static_cast<char>('A' + i)));
    EXPECT_EQ(entries[i].value, values[i]);
  }
  EXPECT_EQ(entries[1].origin, "f.env:4");
}

TEST(ConfigFile, BadLinesAreNamed) {
  const auto message = [](const std::string& text) {
    const auto error = error_of([&] { parse_config_text(text, "f.env"); });
    return error ? std::string(error->what()) : std::string();
  };
  EXPECT_CONTAINS(message("A=1\njust words\n"), "f.env:2: no '='");
  EXPECT_CONTAINS(message("A=1\nB=2\nA=3\n"), "f.env:3: A is given twice");
  EXPECT_CONTAINS(message("A=\"open\n"), "f.env:1: the quote is not closed");
  EXPECT_CONTAINS(message("A=\"x\" y\n"), "f.env:1: text after the closing quote");
  EXPECT_CONTAINS(message("A=\"\\q\"\n"), "f.env:1: unknown escape");
}

TEST(ConfigFile, QuotedValuesReadBack) {
  std::string every_byte;
  for (int c = 1; c < 256; ++c) every_byte += static_cast<char>(c);
  for (const std::string& value : {std::string("plain-1.5_x/y,z"), std::string("two words"), std::string("# not a comment"),
                                   std::string("a #b"), std::string(" edge "), std::string("'\"\\\"'"), std::string("a\nb\r\tc"),
                                   std::string(""), std::string("\"quoted\""), every_byte}) {
    const auto entries = parse_config_text("KEY=" + quote_config_value(value) + "  # origin", "f");
    ASSERT_EQ(entries.size(), 1u);
    EXPECT_EQ(entries[0].value, value);
  }
}

TEST(ConfigFile, FoundWithTheProgram) {
  const std::filesystem::path installation = program_folder().parent_path();
  const std::filesystem::path folder = installation / ("configs_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  write_atomic(folder / "a.env", std::string_view("KEY=1\n"));
  const std::string name = (folder / "a.env").lexically_relative(installation);
  const auto entries = read_config_file(name);
  std::filesystem::remove_all(folder);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].origin, (folder / "a.env:1").string());
}

TEST(ConfigFile, MissingFile) {
  const auto error = error_of([] { read_config_file("no/such/file.env"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ExitCode::bad_input);
  EXPECT_CONTAINS(std::string(error->what()), "no/such/file.env");
}

}  // namespace
}  // namespace pgolf
