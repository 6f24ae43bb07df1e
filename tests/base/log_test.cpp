#include "pgolf/base/log.h"

#include "support/files.h"

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

TEST(Log, FileThatCannotBeOpenedIsAnError) {
  const TempFolder folder;
  write_file(folder / "file", "");
  expect_error(ExitCode::io, {(folder / "file").string()}, [&] { log::open_log_file(folder / "file/log.txt"); });
}

}  // namespace
}  // namespace pgolf::testing
