#include "pgolf/base/share_out.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace pgolf {
namespace {

TEST(ShareOut, CallsEachJobOnce) {
  for (const int threads : {1, 2, 5}) {
    for (const size_t count : {0, 1, 3, 100}) {
      std::vector<std::atomic<int>> calls(count);
      share_out(count, threads, [&](size_t i) { ++calls[i]; });
      for (const auto& times : calls) EXPECT_EQ(times, 1);
    }
  }
}

TEST(ShareOut, ThrowsTheFirstExceptionAndBeginsNoFurtherJob) {
  for (const int threads : {1, 4}) {
    std::atomic<int> begun = 0;
    EXPECT_THROW(share_out(1'000'000, threads,
                           [&](size_t) {
                             ++begun;
                             throw std::runtime_error("one");
                           }),
                 std::runtime_error);
    EXPECT_LE(begun, threads);
  }
}

}  // namespace
}  // namespace pgolf
