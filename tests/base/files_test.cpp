#include "pgolf/base/files.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/files.h"

namespace pgolf::testing {
namespace {

std::string text_of(BytesView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(Files, ReadsWhatWasWritten) {
  const TempFolder folder;
  const std::string content("a\0b\n\xff", 5);
  write_atomic(folder / "file", content);
  EXPECT_EQ(read_text(folder / "file"), content);
  EXPECT_EQ(text_of(read_bytes(folder / "file")), content);
  const MappedFile mapped(folder / "file");
  EXPECT_EQ(text_of(mapped.bytes()), content);
  EXPECT_EQ(mapped.path(), folder / "file");
  write_atomic(folder / "empty", std::string_view());
  EXPECT_EQ(read_text(folder / "empty"), "");
  EXPECT_TRUE(MappedFile(folder / "empty").bytes().empty());
}

TEST(Files, MovedMappingStaysReadable) {
  const TempFolder folder;
  write_file(folder / "a", "first");
  write_file(folder / "b", "second");
  MappedFile a(folder / "a");
  MappedFile moved(std::move(a));
  EXPECT_EQ(text_of(moved.bytes()), "first");
  MappedFile b(folder / "b");
  b = std::move(moved);
  EXPECT_EQ(text_of(b.bytes()), "first");
  EXPECT_EQ(b.path(), folder / "a");
}

TEST(Files, ErrorsNameThePath) {
  const TempFolder folder;
  const std::string missing = (folder / "missing").string();
  expect_error(ExitCode::bad_input, {missing}, [&] { read_text(missing); });
  expect_error(ExitCode::bad_input, {missing}, [&] { read_bytes(missing); });
  expect_error(ExitCode::bad_input, {missing}, [&] { MappedFile file(missing); });
  expect_error(ExitCode::bad_input, {folder.path().string(), "not a regular file"}, [&] { read_text(folder.path()); });
  expect_error(ExitCode::bad_input, {folder.path().string(), "not a regular file"}, [&] { MappedFile file(folder.path()); });
  const std::string pipe = (folder / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_error(ExitCode::bad_input, {pipe, "not a regular file"}, [&] { read_text(pipe); });  // and no waiting for a writer
  const std::string nowhere = (folder / "no/such/folder/file").string();
  expect_error(ExitCode::io, {nowhere}, [&] { write_atomic(nowhere, "x"); });
}

TEST(Files, ErrorsSayWhatIsThereInstead) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  fs::create_symlink("nowhere", folder / "link");
  const std::pair<fs::path, const char*> kinds[] = {{folder.path(), "a folder"},
                                                    {folder / "pipe", "a pipe"},
                                                    {folder / "link", "a link to nothing"},
                                                    {"/dev/null", "a device"}};
  for (const auto& [path, kind] : kinds) {
    EXPECT_EQ(irregular_kind(path), kind);
    expect_error(ExitCode::bad_input, {path.string() + " is not a regular file: it is " + kind}, [&path] { read_text(path); });
  }
  write_file(folder / "file", "");
  for (const char* name : {"file", "absent"}) EXPECT_EQ(irregular_kind(folder / name), "");
}

TEST(Files, OnlyTheNameIsAPattern) {
  const TempFolder folder;
  for (const char* name : {"run[1]/a_1.bin", "run[1]/a_0.bin", "run[1]/.a_2.bin", "run1/a_9.bin", "b[1].bin", "b1.bin"})
    write_file(folder / name, "");
  const auto found = [&](const std::string& pattern) {
    std::vector<std::string> names;
    for (const auto& path : glob_sorted((folder / pattern).string())) names.push_back(path.lexically_relative(folder.path()));
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(found("run[1]/*a_*.bin"), (Names{"run[1]/a_0.bin", "run[1]/a_1.bin"}));
  EXPECT_EQ(found("run*/a_*.bin"), Names());
  EXPECT_EQ(found("none/a_*.bin"), Names());
  EXPECT_EQ(found("b1.bin/*"), Names());
  EXPECT_EQ(found("run[1]/a_[1-9].bin"), Names{"run[1]/a_1.bin"});
  EXPECT_EQ(found("b[1].bin"), Names{"b[1].bin"}) << "the file called so, not b1.bin";
  fs::remove(folder / "b[1].bin");
  EXPECT_EQ(found("b[1].bin"), Names{"b1.bin"});
  EXPECT_EQ(found("run1/a_9.bin"), Names{"run1/a_9.bin"});
  EXPECT_EQ(found("run1/a_8.bin"), Names());
}

TEST(Files, AFolderThatCannotBeListedIsAnError) {
  const TempFolder folder;
  write_file(folder / "x/a.bin", "");
  fs::permissions(folder / "x", fs::perms(0711));
  const AsNobody nobody;
  if (!nobody.works()) GTEST_SKIP() << "this process cannot give up root's rights";
  if (::geteuid() != 65534) fs::permissions(folder / "x", fs::perms(0311));
  expect_error(ExitCode::bad_input, {"cannot list", (folder / "x").string(), "Permission denied"},
               [&] { glob_sorted((folder / "x/*.bin").string()); });
  EXPECT_EQ(glob_sorted((folder / "x/a.bin").string()).size(), 1u) << "no need to list it";
}

TEST(Files, SizeLimitIsInclusive) {
  const TempFolder folder;
  write_file(folder / "file", "12345");
  EXPECT_EQ(read_text(folder / "file", 5), "12345");
  expect_error(ExitCode::bad_input, {(folder / "file").string(), "5 bytes", "4"}, [&] { read_text(folder / "file", 4); });
}

TEST(Files, NothingAppearsBeforeCommit) {
  const TempFolder folder;
  {
    AtomicFile file(folder / "target");
    file.write(as_bytes("half"));
    EXPECT_FALSE(fs::exists(folder / "target"));
  }
  EXPECT_TRUE(names_in(folder.path()).empty()) << "without commit nothing is left";
}

TEST(Files, TargetKeepsItsContentUntilCommit) {
  const TempFolder folder;
  write_file(folder / "target", "old");
  {
    AtomicFile file(folder / "target");
    file.write(as_bytes("new"));
  }
  EXPECT_EQ(read_text(folder / "target"), "old");
  AtomicFile file(folder / "target");
  file.write(as_bytes("header, "));
  file.write(as_bytes("body"));
  file.write_at(0, as_bytes("HEAD"));
  EXPECT_EQ(read_text(folder / "target"), "old");
  file.commit();
  EXPECT_EQ(read_text(folder / "target"), "HEADer, body");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"target"});
}

TEST(Files, WhatAKilledWriterLeftIsRemovedByTheNext) {
  const TempFolder folder;
  write_file(folder / "target.tmp.1", "half");  // of a process that lives, but holds no lock
  write_file(folder / "target.tmp.notes", "a user's");
  write_file(folder / "targets.tmp.1", "of another target");
  const AtomicFile writing(folder / "target");
  const pid_t child = ::fork();
  if (child == 0) {
    write_atomic(folder / "target", "whole");  // and the file in progress is another's
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  const std::vector<std::string> expected{"target", "target.tmp." + std::to_string(::getpid()), "target.tmp.notes",
                                          "targets.tmp.1"};
  EXPECT_EQ(names_in(folder.path()), expected);
}

TEST(Files, CommitThatFailsLeavesNoTemporaryFile) {
  const TempFolder folder;
  fs::create_directory(folder / "target");
  write_file(folder / "target/inside", "x");
  expect_error(ExitCode::io, {(folder / "target").string()}, [&] { write_atomic(folder / "target", "content"); });
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"target"});
  EXPECT_TRUE(fs::is_directory(folder / "target"));
}

TEST(Files, WhatALinkLeadsToIsWritten) {
  const TempFolder folder;
  fs::create_directory(folder / "elsewhere");
  write_file(folder / "elsewhere/file", "old");
  fs::create_symlink("elsewhere/file", folder / "link");
  fs::create_symlink("elsewhere/new", folder / "to_nothing_yet");
  fs::create_symlink("link", folder / "to_link");
  fs::create_symlink("loop", folder / "loop");
  write_atomic(folder / "link", "one");
  EXPECT_EQ(read_text(folder / "elsewhere/file"), "one");
  write_atomic(folder / "to_link", "two");
  EXPECT_EQ(read_text(folder / "elsewhere/file"), "two");
  write_atomic(folder / "to_nothing_yet", "three");
  EXPECT_EQ(read_text(folder / "elsewhere/new"), "three");
  expect_error(ExitCode::io, {"loop"}, [&] { write_atomic(folder / "loop", "four"); });
  for (const char* name : {"link", "to_nothing_yet", "to_link", "loop"}) EXPECT_TRUE(fs::is_symlink(folder / name)) << name;
  EXPECT_EQ(names_in(folder / "elsewhere"), (std::vector<std::string>{"file", "new"}));
}

TEST(Files, PipesAndDevicesAreWrittenAndStay) {
  const TempFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    { const AtomicFile checked_and_unused(pipe); }
    write_atomic(pipe, "through");
    ::_exit(0);
  }
  std::ifstream reader(pipe);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(reader), {}), "through");
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  fs::create_symlink("/dev/full", folder / "full");
  expect_error(ExitCode::io, {"full", "No space left"}, [&] { write_atomic(folder / "full", "x"); });
  fs::create_symlink("/dev/null", folder / "null");
  write_atomic(folder / "null", "x");
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"full", "null", "pipe"}));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  EXPECT_TRUE(fs::is_fifo(pipe));
}

TEST(Files, GlobIsInByteOrder) {
  const TempFolder folder;
  for (const char* name : {"b_10.bin", "b_2.bin", "B_3.bin", "a.bin", "a_\u00e9.bin", "other.txt"}) write_file(folder / name, "");
  std::vector<std::string> names;
  for (const auto& path : glob_sorted((folder / "*.bin").string())) names.push_back(path.filename());
  EXPECT_EQ(names, (std::vector<std::string>{"B_3.bin", "a.bin", "a_\u00e9.bin", "b_10.bin", "b_2.bin"}));
  EXPECT_EQ(glob_sorted((folder / "b_?.bin").string()), std::vector<fs::path>{folder / "b_2.bin"});
  EXPECT_EQ(glob_sorted((folder / "[ab].bin").string()), std::vector<fs::path>{folder / "a.bin"});
  EXPECT_TRUE(glob_sorted((folder / "none*").string()).empty());
}

}  // namespace
}  // namespace pgolf::testing
