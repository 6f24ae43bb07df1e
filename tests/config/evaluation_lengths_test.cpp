#include "pgolf/config/evaluation_lengths.h"

#include <gtest/gtest.h>

#include "support/files.h"

namespace pgolf::testing {
namespace {

TEST(EvaluationLengths, AreFactorsOrTokens) {
  const auto lengths = [](const std::vector<std::string>& texts) { return evaluation_lengths(texts, 32); };
  EXPECT_EQ(lengths({"0.5x", "1x", "2x", "4x"}), (std::vector<int>{16, 32, 64, 128}));
  EXPECT_EQ(lengths({"100", "64", "2x", "1e1x"}), (std::vector<int>{32, 64, 100, 320})) << "ascending, each once, 32 always";
  EXPECT_EQ(lengths({"0.3x"}), (std::vector<int>{10, 32})) << "rounded";
  for (const std::string bad :
       {"0x", "0", "-1x", "-5", "x", "", "1.5", "twox", "2xx", "nanx", "0.001x", "16777217", "1e9x", "1x,2x"})
    expect_error(ExitCode::usage, {"EVAL_SEQ_LENS", bad}, [&] { lengths({"1x", bad}); });
  expect_error(ExitCode::usage, {"EVAL_SEQ_LENS", "empty"}, [&] { lengths({}); });
}

}  // namespace
}  // namespace pgolf::testing
