#include "pgolf/study/values.h"

#include "pgolf/base/text.h"
#include "pgolf/config/train_options.h"
#include "support/files.h"

namespace pgolf::testing {
namespace {

using Texts = std::vector<std::string>;

TEST(SweepValues, Lists) {
  EXPECT_EQ(expand_values("ROPE_DIMS", "none,2,16,full"), (Texts{"none", "2", "16", "full"}));
  EXPECT_EQ(expand_values("ROPE_DIMS", " none , 2 "), (Texts{"none", "2"}));
  EXPECT_EQ(expand_values("DATA_PATH", "../a,../b"), (Texts{"../a", "../b"}));
  EXPECT_EQ(expand_values("MATRIX_LR", "1e-3,0.04"), (Texts{"1e-3", "0.04"}));
}

TEST(SweepValues, ValuesWithCommas) {
  EXPECT_EQ(expand_values("ROPE_LAYERS", "full*3,none;16"), (Texts{"full*3,none", "16"}));
  EXPECT_EQ(expand_values("ROPE_LAYERS", "full*3,none"), (Texts{"full*3,none"}));
}

TEST(SweepValues, EveryListOptionOfTrainGptIsKnown) {
  int lists = 0;
  for (const auto& line : split(train_options_markdown(), '\n')) {
    const auto cells = split(line, '|');
    if (cells.size() < 4 || !trim(cells[3]).starts_with("list")) continue;
    const std::string_view name = trim(cells[2]);
    EXPECT_TRUE(value_has_commas(name.substr(1, name.size() - 2))) << name;
    ++lists;
  }
  EXPECT_EQ(lists, 4);
  EXPECT_FALSE(value_has_commas("ROPE_DIMS"));
}

TEST(SweepValues, Ranges) {
  EXPECT_EQ(expand_values("SEED", "1..5"), (Texts{"1", "2", "3", "4", "5"}));
  EXPECT_EQ(expand_values("SEED", "7..7"), (Texts{"7"}));
  EXPECT_EQ(expand_values("ROPE_DIMS", "2..11:4,full"), (Texts{"2", "6", "10", "full"}));
  EXPECT_EQ(expand_values("ROPE_FRACTION", "0.1..0.4:0.1"), (Texts{"0.1", "0.2", "0.3", "0.4"}));
  EXPECT_EQ(expand_values("QK_GAIN_INIT", "-0.5..0.5:.5"), (Texts{"-0.5", "0.0", "0.5"}));
  EXPECT_EQ(expand_values("MATRIX_LR", "0..1:0.25"), (Texts{"0.00", "0.25", "0.50", "0.75", "1.00"}));
}

TEST(SweepValues, WrongOnes) {
  const auto refuse = [](const char* text, const std::vector<std::string>& parts) {
    expect_error(ExitCode::usage, parts, [&] { expand_values("ROPE_DIMS", text); });
  };
  refuse("2,,6", {"--rope-dims 2,,6", "empty entry"});
  refuse("2,6,", {"empty entry"});
  refuse("", {"empty entry"});
  refuse("5..1", {"5..1", "is descending"});
  refuse("1..", {"not a range", "FIRST..LAST"});
  refuse("1..x", {"not a range"});
  refuse("1...5", {"needs a step"});
  refuse("1..5:0", {"step"});
  refuse("1..5:-1", {"step"});
  refuse("1..5:", {"not a range"});
  refuse("0.1..0.5", {"needs a step"});
  refuse("1..10001", {"more than 10000 values"});
  refuse("1..9999999999999999999", {"not a range"});
  refuse("0..1:0.0000000001", {"decimals"});
}

}  // namespace
}  // namespace pgolf::testing
