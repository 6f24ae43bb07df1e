// Which optimizer has which parameter, in which order.
#include "pgolf/base/format.h"
#include "pgolf/optim/optimizers.h"
#include "record_models.h"

namespace pgolf::reference {
namespace {

class Groups : public ReferenceTest, public ::testing::WithParamInterface<char> {};

TEST_P(Groups, AreTheRecordedOnes) {
  const auto recorded = load_json(format("%sconfig.json", record_folder(GetParam())));
  Gpt model(record_model(GetParam(), recorded.at("env")), OpsPath::reference);
  const ParameterGroups groups = split_parameters(model, control_patterns());
  const auto& expected = recorded.at("optimizer_groups");
  EXPECT_EQ(names_of(groups.tok_emb), expected.at("tok").get<std::vector<std::string>>());
  EXPECT_EQ(names_of(groups.matrix), expected.at("muon").get<std::vector<std::string>>());
  EXPECT_EQ(names_of(groups.scalar), expected.at("scalar").get<std::vector<std::string>>());
  EXPECT_TRUE(groups.lm_head.empty());
}

INSTANTIATE_TEST_SUITE_P(Programs, Groups, ::testing::Values('A', 'B', 'D'),
                         [](const auto& info) { return std::string(1, info.param); });

}  // namespace
}  // namespace pgolf::reference
