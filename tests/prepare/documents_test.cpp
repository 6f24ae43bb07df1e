#include "pgolf/prepare/documents.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <iterator>

#include "data/fixtures.h"
#include "pgolf/prepare/folder_files.h"

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
  write_file(folder / "c.txt", "\xef\xbb\xbf");
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(read_all({folder / "a.jsonl", folder / "b.txt", folder / "c.txt"}), std::vector<std::string>());
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("left out: 1 empty .txt file"), std::string::npos);
}

TEST(Documents, ByteOrderMarksAreNoText) {
  TempFolder folder;
  write_file(folder / "a.txt", "\xef\xbb\xbfone");
  write_file(folder / "b.txt", "\xef\xbb\xbftwo \xef\xbb\xbf");
  write_file(folder / "c.jsonl", "\xef\xbb\xbf{\"text\": \"three\"}\n{\"text\": \"four\"}");
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(read_all({folder.path()}), (std::vector<std::string>{"one", "two \xef\xbb\xbf", "three", "four"}));
  const std::string output = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(output, (folder / "a.txt").string() + " begins with a byte order mark, which is left out, here and in other files\n");
}

TEST(Documents, AFileIsReadOnceHoweverItIsGiven) {
  namespace fs = std::filesystem;
  TempFolder folder;
  write_file(folder / "in/a.txt", "a");
  write_file(folder / "in/b.txt", "b");
  fs::create_hard_link(folder / "in/a.txt", folder / "in/c.txt");
  fs::create_symlink("b.txt", folder / "in/0.txt");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(read_all({folder / "in/a.txt", folder / "in", folder / "in/../in/a.txt"}), (std::vector<std::string>{"a", "b"}));
  const std::string warning = ::testing::internal::GetCapturedStderr();
  for (const std::string& part :
       {std::string("warning: 4 files are given again, and read only once: "),
        (folder / "in/b.txt").string() + " is " + (folder / "in/0.txt").string(), std::string(", ...")}) {
    EXPECT_NE(warning.find(part), std::string::npos) << warning;
  }
}

TEST(Documents, Rewind) {
  TempFolder folder;
  write_file(folder / "a.jsonl", "{\"text\": \"one\"}\n\n{\"text\": \"two\"}");
  write_file(folder / "b.txt", "b");
  DocumentReader reader({folder.path()});
  for (const int documents : {2, 3, 1}) {
    std::vector<std::string> texts, places;
    for (std::string text; std::ssize(texts) < documents && reader.next(text);) {
      texts.push_back(text);
      places.push_back(std::filesystem::path(reader.place()).filename());
    }
    const std::vector<std::string> all{"one", "two", "b"}, all_places{"a.jsonl:1", "a.jsonl:3", "b.txt"};
    EXPECT_EQ(texts, std::vector<std::string>(all.begin(), all.begin() + documents));
    EXPECT_EQ(places, std::vector<std::string>(all_places.begin(), all_places.begin() + documents));
    reader.rewind();
  }
}

TEST(Documents, BadLinesNameFileAndLine) {
  TempFolder folder;
  const std::string no_text = "not an object with a string field";
  const std::vector<std::pair<std::string, std::string>> cases{
      {"{\"text\": 3}", no_text},
      {"{\"Text\": \"x\"}", no_text},
      {"[1]", no_text},
      {"\"text\"", no_text},
      {"null", no_text},
      {"{\"text\": \"x\"", "it ends too early, after 12 bytes"},
      {"{\"text\": \"\xff\"}", "byte 10 is not valid UTF-8"},
      {"{\"text\":\"a\",\"score\":NaN}", "byte 20: NaN, which Python's json module writes, is not JSON"},
      {"{\"score\":-Infinity}", "-Infinity, which Python"},
      {"{\"text\":\"bad \\ud83d half\"}", "half of a surrogate pair"},
      {"{\"text\":\"bad \\udc00 half\"}", "half of a surrogate pair"},
      {std::string("{\"text\":\"\0\"}", 12), "byte 9 is NUL"},
      {"{\"text\":\"a\tb\"}", "control character U+0009"},
      {"{\"n\":1e999,\"text\":\"\"}", "the number 1e999 is too large"},
      {"{'text': 'x'}", "byte 1: "},
      {"hello", "byte 0: "}};
  for (const auto& [line, reason] : cases) {
    write_file(folder / "bad.jsonl", "{\"text\": \"good\"}\n\n" + line + "\n");
    expect_error(ExitCode::bad_input, {"bad.jsonl:3: ", reason, reason.ends_with("UTF-8") ? "iconv -f latin1" : "{\"text\""},
                 [&] { read_all({folder / "bad.jsonl"}); });
  }
}

TEST(Documents, SayWhatAFileIsInstead) {
  TempFolder folder;
  const auto wide = [](const std::string& text, bool mark) {
    std::string out = mark ? "\xff\xfe" : "";
    for (const char c : text) out += {c, '\0'};
    return out;
  };
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 200001024\n";
  for (const char* name : {"f.txt", "f.jsonl"}) {
    const auto expect_refused = [&](const std::string& content, const std::vector<std::string>& parts) {
      write_file(folder / name, content);
      expect_error(ExitCode::bad_input, parts, [&] { read_all({folder / name}); });
    };
    expect_refused(wide("{\"text\":\"a\"}\n", true), {"is UTF-16 text", "iconv -f UTF-16"});
    expect_refused(wide("{\"text\":\"a\"}\n", false), {"is UTF-16 text"});
    expect_refused(std::string("\xff\xfe\0\0", 4), {"is UTF-32 text"});
    expect_refused(pointer, {"is a Git LFS pointer", "git lfs pull"});
    expect_refused("\x1f\x8b\x08", {"is gzip-compressed", "unpack it first: gunzip"});
    expect_refused(std::string("PAR1\x15\xff", 6), {"is a Parquet file"});
  }
  write_file(folder / "f.jsonl", "<!DOCTYPE html>\n");
  expect_error(ExitCode::bad_input, {"f.jsonl:1: ", "a web page"}, [&] { read_all({folder / "f.jsonl"}); });
}

TEST(FolderFiles, FollowLinksOnceAndCountTheRest) {
  TempFolder folder;
  write_file(folder / "in/a.txt", "a");
  write_file(folder / "in/.hidden/b.txt", "b");
  write_file(folder / "in/x.md", "");
  write_file(folder / "in/y.jsonl.gz", "");
  write_file(folder / "in/z.gz", "");
  write_file(folder / "in/README", "");
  write_file(folder / "elsewhere/c.txt", "c");
  namespace fs = std::filesystem;
  fs::create_directory_symlink(folder / "elsewhere", folder / "in/link");
  fs::create_directory_symlink(folder / "elsewhere", folder / "in/link_again");
  fs::create_directory_symlink(folder / "in", folder / "in/loop");
  fs::create_symlink(folder / "nowhere", folder / "in/dead.txt");
  fs::create_symlink(folder / "in/a.txt", folder / "in/also_a.txt");
  const FolderFiles found = files_below(folder / "in", {".txt"});
  EXPECT_EQ(found.files, (std::vector<fs::path>{folder / "in/.hidden/b.txt", folder / "in/a.txt", folder / "in/also_a.txt",
                                                folder / "in/link/c.txt"}));
  fs::create_symlink(folder / "nowhere", folder / "in/dead.md");
  EXPECT_EQ(files_below(folder / "in", {".txt"}).left_out(),
            "4 files of other kinds (.gz 2, .md 1, none 1), 2 links to folders that are read already, " +
                (folder / "in/dead.txt").string() + " (a link to nothing), 1 link to nothing");
  EXPECT_EQ(files_below(folder / "elsewhere", {".txt"}).left_out(), "");
  expect_error(ExitCode::bad_input, {"cannot list", "none"}, [&] { files_below(folder / "none", {".txt"}); });
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

TEST(Documents, LargeOnesAreAnnounced) {
  TempFolder folder;
  write_file(folder / "a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}");
  DocumentReader reader({folder.path()});
  std::string text;
  ASSERT_TRUE(reader.next(text) && reader.next(text));
  ::testing::internal::CaptureStdout();
  announce_if_large(reader, text.size());
  announce_if_large(reader, 100'000'000);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(),
            (folder / "a.jsonl").string() +
                ":2: a document of 95.4 MiB, which SentencePiece splits as a whole: about 100 s, 13.0 GiB of memory\n");
}

TEST(Documents, AdviceIsForLatin1OnlyIfNothingElseIsUtf8) {
  TempFolder folder;
  const std::string latin1 = "{\"text\": \"a\"}\n{\"text\": \"caf\xe9\"}\n", mixed = latin1 + "{\"text\": \"caf\u00e9\"}\n";
  write_file(folder / "bad.jsonl", latin1);
  expect_error(ExitCode::bad_input, {"bad.jsonl:2: byte 13 is not valid UTF-8", "iconv -f latin1"},
               [&] { read_all({folder / "bad.jsonl"}); });
  for (const char* name : {"bad.jsonl", "bad.txt"}) {
    write_file(folder / name, mixed);
    expect_error(ExitCode::bad_input, {"is not valid UTF-8", "other characters of the file are UTF-8"},
                 [&] { read_all({folder / name}); });
  }
}

TEST(Documents, WhatCannotBeReadIsOneKindOfError) {
  namespace fs = std::filesystem;
  TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe.txt").c_str(), 0600), 0);
  fs::create_symlink("nowhere", folder / "dead.jsonl");
  expect_error(ExitCode::bad_input, {"pipe.txt is a pipe"}, [&] { read_all({folder / "pipe.txt"}); });
  expect_error(ExitCode::bad_input, {"dead.jsonl is a link to nothing"}, [&] { read_all({folder / "dead.jsonl"}); });
  write_file(folder / "secret.txt", "x");
  write_file(folder / "closed/x.txt", "x");
  fs::permissions(folder / "secret.txt", fs::perms(0));
  fs::permissions(folder / "closed", fs::perms(0));
  {
    const testing::AsNobody nobody;
    if (!nobody.works()) GTEST_SKIP() << "this process cannot give up root's rights";
    for (const char* name : {"secret.txt", "closed", "closed/x.txt"})
      expect_error(ExitCode::bad_input, {name, "Permission denied"}, [&] { read_all({folder / name}); });
  }
  fs::permissions(folder / "closed", fs::perms(0700));
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
