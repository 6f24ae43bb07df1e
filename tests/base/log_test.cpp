#include "pgolf/base/log.h"

#include "support/files.h"
#include "support/full_pipe.h"

namespace pgolf::testing {
namespace {

TEST(Log, LinesGoWhereTheyBelong) {
  const TempFolder folder;
  write_file(folder / "log.txt", "from before\n");
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  log::info("before the file is open {}");
  log::open_log_file(folder / "log.txt");
  log::info("step:1/2 {} %d");
  log::file_only("only the file");
  log::warn("careful");
  log::close_log_file();
  log::info("after");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "before the file is open {}\nstep:1/2 {} %d\nafter\n");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "warning: careful\n");
  EXPECT_EQ(read_text(folder / "log.txt"), "from before\nstep:1/2 {} %d\nonly the file\nwarning: careful\n");
}

TEST(Log, ALineIsDroppedRatherThanWaitedFor) {
  std::string some, last;
  {
    const FullPipeAsStderr pipe;
    log::err_or_drop("one");
    log::err_or_drop("two");
    EXPECT_EQ(pipe.read().find_first_not_of('x'), std::string::npos);
    log::err_or_drop("three\nlines");
    log::err_or_drop("four");
    some = pipe.read();
    log::err_or_drop(std::string(100'000, 'a'));
    last = pipe.read();
  }
  EXPECT_EQ(some, "2 lines are missing here: nobody read them; three?lines\nfour\n");
  EXPECT_TRUE(last.starts_with("aaaa") && last.ends_with("...\n")) << last;
  EXPECT_LE(last.size(), 4096u);
}

TEST(Log, FileThatCannotBeOpenedIsAnError) {
  const TempFolder folder;
  write_file(folder / "file", "");
  expect_error(ExitCode::io, {(folder / "file").string()}, [&] { log::open_log_file(folder / "file/log.txt"); });
}

}  // namespace
}  // namespace pgolf::testing
