#include "pgolf/model_io/expected_tensors.h"

#include "support/files.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

TEST(ExpectedTensors, TensorsAreSortedIntoTheModelsOrder) {
  Gpt model = make_random_model(tiny_config());
  const auto state = state_dict(model);
  StateDict reversed(state.rbegin(), state.rend());
  expect_same_tensors(in_model_order(reversed, tiny_config(), "f"), state);
}

TEST(ExpectedTensors, MismatchesAreNamed) {
  Gpt model = make_model(tiny_config());
  const auto state = state_dict(model);
  const auto refused = [&](const std::vector<std::string>& parts, const std::function<void(StateDict&)>& change) {
    StateDict bad = state;
    change(bad);
    expect_error(ExitCode::bad_input, parts, [&] { in_model_order(bad, tiny_config(), "f.pt"); });
  };
  refused({"f.pt is not a GPT of this family (2 layers, width 32): missing: skip_weights"},
          [](auto& bad) { bad.erase(bad.begin()); });
  refused({"unknown: repeat?scales"}, [](auto& bad) { bad.emplace_back("repeat\nscales", torch::zeros({1})); });
  refused({"contains tok_emb.weight twice"}, [](auto& bad) { bad.emplace_back("tok_emb.weight", torch::zeros({1})); });
  refused({"skip_weights [6, 32] instead of [1, 32]"}, [](auto& bad) { bad[0].second = torch::zeros({6, 32}); });
  refused({"missing: skip_weights, tok_emb.weight, blocks.0.attn_scale and "}, [](auto& bad) { bad.clear(); });
}

TEST(ExpectedTensors, AHugeConfigurationAllocatesNothing) {
  // A configuration with 17 TB of weights for a small file.
  ModelConfig config = tiny_config();
  config.vocab_size = config.model_dim = 65'536;
  config.num_layers = 1000;
  Gpt model = make_model(tiny_config());
  expect_error(ExitCode::bad_input, {"instead of [65536, 65536]"}, [&] { in_model_order(state_dict(model), config, "f"); });
}

TEST(ExpectedTensors, FoundNamesForAMissingOne) {
  const auto one = torch::zeros({1});
  const StateDict state{{"a.0.mlp.up.weight", one}, {"a.0.mlp.up.bias", one}, {"a.0.mlp.down", one}, {"b", one}};
  EXPECT_EQ(describe_found_names(state, "a.0.mlp.fc.weight"), "a.0.mlp.: up, down");
  EXPECT_EQ(describe_found_names(state, "a.0.attn.q"), "a.0.: mlp");
  EXPECT_EQ(describe_found_names(state, "c.d"), "a, b");
  EXPECT_EQ(describe_found_names({}, "c.d"), "nothing");
}

}  // namespace
}  // namespace pgolf::testing
