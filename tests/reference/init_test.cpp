// Initial weights: same seed, same bits as upstream, on every processor with AVX2.
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

/// LibTorch's code without vectors is off by two units in the last place of the largest number at most (normal numbers go through
/// a logarithm, a root and a cosine, each rounded); where that tips a rounding to bfloat16 (`rounded`), by one of bfloat16's
/// units.
void expect_initial(const at::Tensor& tensor, const json& described, bool rounded, const std::string& what) {
  if (vectors_in_libtorch()) {
    EXPECT_EQ(sha256_hex(tensor), described.at("sha256").get<std::string>()) << what;
    return;
  }
  const double largest = described.at("abs_max").get<double>(), unit = 0x1p-22 * largest;
  const auto off_by = [&](double value) { return unit + (rounded ? 0x1p-7 * std::abs(value) : 0); };
  const auto values = tensor.to(at::kDouble).flatten();
  const auto first = described.at("first").get<std::vector<double>>();
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_NEAR(values[static_cast<int64_t>(i)].item<double>(), first[i], off_by(first[i])) << what;
  }
  const double l2 = described.at("l2").get<double>();
  EXPECT_NEAR(values.norm().item<double>(), l2, 1e-6 * l2) << what;
  EXPECT_NEAR(values.abs().max().item<double>(), largest, off_by(largest)) << what;
}

class Init : public ReferenceTest, public ::testing::WithParamInterface<InitCase> {};

TEST_P(Init, EveryParameterHasTheRecordedBits) {
  const auto recorded = load_json(format("init/%s.json", GetParam().file));
  ModelConfig config = GetParam().big ? ModelConfig() : tiny_model();
  config.tie_embeddings = GetParam().tied;
  for (const bool main_dtypes : {true, false}) {
    torch::manual_seed(static_cast<uint64_t>(GetParam().seed));
    Gpt model(config, OpsPath::reference);
    // The generator's next numbers show that construction consumed exactly what upstream's does.
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
      expect_initial(tensor, params.at(name), main_dtypes, name + (main_dtypes ? " as main() leaves it" : " unrounded"));
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
