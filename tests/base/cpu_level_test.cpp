#include "pgolf/base/cpu_level.h"

#include <gtest/gtest.h>

namespace pgolf {
namespace {

TEST(CpuLevel, NamesAndLevelsAreEachOthersInverse) {
  for (const auto level : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512, CpuLevel::avx512bf16, CpuLevel::amx}) {
    EXPECT_EQ(cpu_level_of(cpu_level_name(level)), level);
  }
  EXPECT_EQ(cpu_level_of("sse9"), std::nullopt);
  EXPECT_EQ(cpu_level_of(""), std::nullopt);
}

}  // namespace
}  // namespace pgolf
