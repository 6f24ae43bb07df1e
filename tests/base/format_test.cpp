#include "pgolf/base/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace pgolf {
namespace {

TEST(Format, PrintsLikePrintf) {
  EXPECT_EQ(format("step:%d/%d loss:%.4f %s", 3, 10, 2.34567, "ok"), "step:3/10 loss:2.3457 ok");
  EXPECT_EQ(format("%s", ""), "");
  EXPECT_EQ(format("%s", std::string(5000, 'x').c_str()).size(), 5000u);
}

TEST(Format, WithCommasGroupsThreeDigits) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
  EXPECT_EQ(with_commas(-123), "-123");
  EXPECT_EQ(with_commas(-1234), "-1,234");
  EXPECT_EQ(with_commas(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
}

TEST(Format, PythonFloatIsPythonsRepr) {
  // Right column: repr() of CPython.
  const std::pair<double, const char*> cases[] = {{0.04, "0.04"},
                                                  {0.0, "0.0"},
                                                  {-0.0, "-0.0"},
                                                  {1.0, "1.0"},
                                                  {-2.5, "-2.5"},
                                                  {10000.0, "10000.0"},
                                                  {1e-8, "1e-08"},
                                                  {-1e-8, "-1e-08"},
                                                  {0.0001, "0.0001"},
                                                  {0.00012345, "0.00012345"},
                                                  {0.00009, "9e-05"},
                                                  {0.1 + 0.2, "0.30000000000000004"},
                                                  {1.0 / 3.0, "0.3333333333333333"},
                                                  {1e15, "1000000000000000.0"},
                                                  {1e16, "1e+16"},
                                                  {1.5e16, "1.5e+16"},
                                                  {9007199254740993.0, "9007199254740992.0"},
                                                  {123456789012345680.0, "1.2345678901234568e+17"},
                                                  {1e100, "1e+100"},
                                                  {5e-324, "5e-324"},
                                                  {1.7976931348623157e308, "1.7976931348623157e+308"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(python_float(value), text);
  EXPECT_EQ(python_float(std::nan("")), "nan");
  EXPECT_EQ(python_float(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(python_float(-std::numeric_limits<double>::infinity()), "-inf");
}

TEST(Format, HumanBytesUsesBinaryUnits) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(1.5 * 1024 * 1024), "1.5 MiB");
  EXPECT_EQ(human_bytes(16'000'000), "15.3 MiB");
  EXPECT_EQ(human_bytes(std::pow(1024.0, 5)), "1024.0 TiB");
}

TEST(Format, HumanDurationUsesTheUnitThatFits) {
  EXPECT_EQ(human_duration(-1), "0.0s");
  EXPECT_EQ(human_duration(12.34), "12.3s");
  EXPECT_EQ(human_duration(59.96), "1m00s");
  EXPECT_EQ(human_duration(60), "1m00s");
  EXPECT_EQ(human_duration(245), "4m05s");
  EXPECT_EQ(human_duration(2 * 3600 + 3 * 60 + 20), "2h03m");
}

}  // namespace
}  // namespace pgolf
