#include "pgolf/prepare/documents.h"

#include <gtest/gtest.h>

#include "data/fixtures.h"

namespace pgolf {
namespace {

using testing::expect_error;
using testing::TempFolder;
using testing::write_file;

std::vector<std::string> read_all(const std::vector<std::filesystem::path>& inputs) {
  DocumentReader reader(inputs);
  std::vector<std::string> texts;
  for (std::string text; reader.next(text);) texts.push_back(text);
  EXPECT_EQ(reader.bytes_read(), reader.total_bytes());
  return texts;
}

TEST(Documents, FilesAndFoldersInOrder) {
  TempFolder folder;
  write_file(folder / "c/z.txt", "z\n");
  write_file(folder / "c/a.txt", "a");
  write_file(folder / "c/b/lines.jsonl", "{\"text\": \"one\"}\n\n{\"id\": 3, \"text\": \"two \\u20ac\"}\r\n{\"text\": \"\"}");
  write_file(folder / "c/ignored.md", "no");
  write_file(folder / "first.txt", "first");
  EXPECT_EQ(read_all({folder / "first.txt", folder / "c"}),
            (std::vector<std::string>{"first", "a", "one", "two \xe2\x82\xac", "", "z\n"}));
}

TEST(Documents, EmptyFiles) {
  TempFolder folder;
  write_file(folder / "a.jsonl", "");
  write_file(folder / "b.txt", "");
  EXPECT_EQ(read_all({folder / "a.jsonl", folder / "b.txt"}), (std::vector<std::string>{""}));
}

TEST(Documents, BadLinesNameFileAndLine) {
  TempFolder folder;
  for (const std::string line :
       {"{\"text\": 3}", "{\"Text\": \"x\"}", "[1]", "\"text\"", "{\"text\": \"x\"", "{\"text\": \"\xff\"}", "null"}) {
    write_file(folder / "bad.jsonl", "{\"text\": \"good\"}\n\n" + line + "\n");
    expect_error(ExitCode::bad_input, {"bad.jsonl:3: not ", "{\"text\""}, [&] { read_all({folder / "bad.jsonl"}); });
  }
}

TEST(Documents, TextMustBeUtf8) {
  TempFolder folder;
  write_file(folder / "good.txt",
             "\x7f \xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf");
  EXPECT_EQ(read_all({folder / "good.txt"}).size(), 1u);
  for (const std::string bad : {"\xe9t\xe9", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                                "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\x80", "\xe2\x82", "\xf0\x90\x80", "\xc2"}) {
    write_file(folder / "bad.txt", "abc" + bad);
    expect_error(ExitCode::bad_input, {"bad.txt: byte 3 is not valid UTF-8", "iconv"}, [&] { read_all({folder / "bad.txt"}); });
  }
}

TEST(Documents, InvalidInputs) {
  TempFolder folder;
  write_file(folder / "d/x.md", "x");
  expect_error(ExitCode::bad_input, {"no such input", "none.txt"}, [&] { read_all({folder / "none.txt"}); });
  expect_error(ExitCode::bad_input, {"x.md is neither .txt nor .jsonl"}, [&] { read_all({folder / "d/x.md"}); });
  expect_error(ExitCode::bad_input, {"no .txt or .jsonl file"}, [&] { read_all({folder / "d"}); });
}

}  // namespace
}  // namespace pgolf
