#include "pgolf/base/error.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <future>
#include <new>
#include <system_error>
#include <thread>

namespace pgolf {
namespace {

/// Exit code and standard error.
std::pair<int, std::string> run_body(const std::function<ExitCode()>& body) {
  ::testing::internal::CaptureStderr();
  const int code = run_main(body);
  return {code, ::testing::internal::GetCapturedStderr()};
}

TEST(RunMain, PassesTheBodysExitCodeOn) {
  EXPECT_EQ(run_body([] { return ExitCode::ok; }), std::pair(0, std::string()));
  EXPECT_EQ(run_body([] { return ExitCode::over_budget; }), std::pair(4, std::string()));
  EXPECT_EQ(run_body([] { return ExitCode::interrupted; }), std::pair(130, std::string()));
}

TEST(RunMain, AnErrorBecomesItsCodeAndItsText) {
  const std::pair<ExitCode, int> codes[] = {{ExitCode::internal, 1},    {ExitCode::usage, 2},        {ExitCode::bad_input, 3},
                                            {ExitCode::over_budget, 4}, {ExitCode::non_finite, 5},   {ExitCode::io, 6},
                                            {ExitCode::unavailable, 7}, {ExitCode::interrupted, 130}};
  for (const auto& [code, number] : codes) {
    const auto result = run_body([code = code]() -> ExitCode { throw Error(code, "it broke at line 3", "fix line 3"); });
    EXPECT_EQ(result, std::pair(number, std::string("error: it broke at line 3\n  fix line 3\n")));
  }
  EXPECT_EQ(run_body([]() -> ExitCode { throw Error(ExitCode::io, "disk full"); }),
            std::pair(6, std::string("error: disk full\n")));
}

TEST(RunMain, AnErrorIsOneLineWhateverItQuotes) {
  const auto result =
      run_body([]() -> ExitCode { throw Error(ExitCode::bad_input, "no file a\n\x1b[2Jb " + std::string(500, 'x')); });
  EXPECT_EQ(result, std::pair(3, "error: no file a??[2Jb " + std::string(500, 'x') + "\n"));
}

TEST(RunMain, OtherExceptionsAreCaughtToo) {
  const auto other = run_body([]() -> ExitCode { throw std::logic_error("index 7"); });
  EXPECT_EQ(other.first, 1);
  EXPECT_EQ(other.second.rfind("error: index 7\n", 0), 0u) << other.second;
}

TEST(RunMain, OutOfMemoryIsNotABug) {
  const std::function<ExitCode()> bodies[] = {
      []() -> ExitCode { throw std::bad_alloc(); },
      []() -> ExitCode { throw std::runtime_error("DefaultCPUAllocator: not enough memory"); },
      []() -> ExitCode {
        throw std::runtime_error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.");
      },
      []() -> ExitCode { throw std::runtime_error("could not create a primitive"); },
      []() -> ExitCode { throw std::runtime_error("CUDA out of memory. Tried to allocate 3 GiB"); }};
  for (const auto& body : bodies) {
    const auto result = run_body(body);
    EXPECT_EQ(result.first, 7);
    EXPECT_EQ(result.second.rfind("error: out of memory\n", 0), 0u) << result.second;
  }
}

TEST(RunMain, AThreadThatCannotStartIsNotABug) {
  const auto result =
      run_body([]() -> ExitCode { throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again)); });
  EXPECT_EQ(result.first, 7);
  EXPECT_EQ(result.second.rfind("error: cannot start a thread", 0), 0u) << result.second;
}

// In a library's thread, and where a destructor of a started thread meets an exception.
TEST(RunMainDeathTest, WhatNothingCatchesIsStillOneLine) {
  const auto end_in_thread = [](auto exception) {
    run_main([&]() -> ExitCode {
      std::thread([&] { throw exception; }).join();
      return ExitCode::ok;
    });
  };
  EXPECT_EXIT(end_in_thread(std::bad_alloc()), ::testing::ExitedWithCode(7), "^error: out of memory\n");
  EXPECT_EXIT(end_in_thread(Error(ExitCode::io, "disk full")), ::testing::ExitedWithCode(6), "^error: disk full\n");
  const auto end_with_a_thread = []() -> ExitCode {
    std::promise<void> end;
    const std::thread thread([&] { end.get_future().wait(); });
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  };
  EXPECT_EXIT(run_main(end_with_a_thread), ::testing::ExitedWithCode(7), "^error: a library ended the program; memory");
}

TEST(RunMainDeathTest, ClosedStandardStreamsAreNotReused) {
  const auto open_a_file = [] {
    for (int fd = 0; fd < 3; ++fd) ::close(fd);
    ::_exit(run_main([] { return static_cast<ExitCode>(::open("/dev/zero", O_RDONLY)); }));
  };
  EXPECT_EXIT(
      open_a_file(), [](int status) { return WIFEXITED(status) && WEXITSTATUS(status) > 2; }, "");
}

TEST(RunMainDeathTest, AFileOverTheLimitIsAnErrorOfWrite) {
  const auto write_too_much = [] {
    const rlimit limit{10, 10};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const int file = ::memfd_create("limited", 0);
    ::_exit(run_main([&] {
      const std::string text(20, 'x');
      while (::write(file, text.data(), text.size()) > 0) {
      }
      return errno == EFBIG ? ExitCode::io : ExitCode::ok;
    }));
  };
  EXPECT_EXIT(write_too_much(), ::testing::ExitedWithCode(6), "");
}

}  // namespace
}  // namespace pgolf
