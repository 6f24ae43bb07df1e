// Initial weights: same seed, same bits as the Python program, whatever the processor.
#include "pgolf/base/format.h"
#include "support.h"

namespace pgolf::reference {
namespace {

struct InitCase {
  const char* file;
  int64_t seed;
  bool tied;
  bool big;
};

class Init : public ReferenceTest, public ::testing::WithParamInterface<InitCase> {};

TEST_P(Init, EveryParameterHasTheRecordedBits) {
  const auto recorded = load_json(format("init/%s.json", GetParam().file));
  ModelConfig config = GetParam().big ? ModelConfig() : tiny_model();
  config.tie_embeddings = GetParam().tied;
  for (const bool main_dtypes : {true, false}) {
    torch::manual_seed(static_cast<uint64_t>(GetParam().seed));
    Gpt model(config, OpsPath::reference);
    // What the generator gives next shows that construction consumed just what the Python program's does.
    if (recorded.contains("next_four_uniforms_after_construction")) {
      const auto next = torch::rand(4);
      for (int i = 0; i < 4; ++i)
        EXPECT_EQ(next[i].item<float>(), recorded["next_four_uniforms_after_construction"][i].get<float>());
    }
    if (main_dtypes) set_parameter_precision(model, at::kBFloat16, control_patterns());
    const auto& params = recorded.at(main_dtypes ? "params" : "params_fp32_unrounded");
    std::vector<std::string> order;
    for (const auto& [name, tensor] : state_dict(model)) {
      order.push_back(name);
      EXPECT_EQ(sha256_hex(tensor), params.at(name).at("sha256").get<std::string>())
          << name << (main_dtypes ? " as main() leaves it" : " unrounded");
    }
    EXPECT_EQ(order, recorded.at("state_dict_order").get<std::vector<std::string>>());
  }
}

INSTANTIATE_TEST_SUITE_P(Reference, Init,
                         ::testing::Values(InitCase{"init_tiny_seed1337", 1337, true, false},
                                           InitCase{"init_tiny_seed7", 7, true, false},
                                           InitCase{"init_tiny_untied_seed1337", 1337, false, false},
                                           InitCase{"init_default_9x512_seed1337", 1337, true, true}),
                         [](const auto& info) { return std::string(info.param.file); });

}  // namespace
}  // namespace pgolf::reference
