// What the record programs construct: block orders, tensors, initial values, and the generator's state afterwards.
#include <set>

#include "pgolf/config/parameters.h"
#include "pgolf/optim/optimizers.h"
#include "record_models.h"

namespace pgolf::reference {
namespace {

/// A factor Q of LAPACK's QR depends on the processor by this much, relative to its largest entry (records/README.md).
constexpr double kOrthogonal = 5.5e-6;

class RecordInit : public ReferenceTest, public ::testing::WithParamInterface<char> {
 protected:
  static json load(const char* file) { return load_json(std::string(record_folder(GetParam())) + file); }

  static void expect_next_uniforms(const json& recorded) {
    const auto next = torch::rand(4);
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(next[i].item<float>(),
                recorded.at("next_four_uniforms_after_construction").at(static_cast<size_t>(i)).get<float>());
    }
  }

  /// Counts the tensors that could differ and do.
  void expect_initial(const at::Tensor& tensor, const json& described, Initialization initialization, bool rounded,
                      const std::string& what) {
    if (initialization != Initialization::orthogonal && vectors_in_libtorch()) {
      EXPECT_EQ(sha256_hex(tensor), described.at("sha256").get<std::string>()) << what;
      return;
    }
    if (sha256_hex(tensor) == described.at("sha256").get<std::string>()) return;
    ++other_bits_;
    EXPECT_FALSE(same_processor()) << what;
    // Half a unit of bfloat16 more where a value was rounded.
    expect_near_description(tensor, described, rounded ? 0x1p-8 : kOrthogonal, what);
  }

  void TearDown() override {
    if (other_bits_ > 0) std::cout << other_bits_ << " orthogonal matrices have other bits on this processor\n";
  }

  int other_bits_ = 0;
};

TEST_P(RecordInit, EveryParameter) {
  const auto recorded = load("init.json");
  const ModelConfig config = record_model(GetParam(), recorded.at("env"));
  EXPECT_EQ(config.parameter_count(), recorded.at("n_params").get<int64_t>());
  const auto parameters = model_parameters(config);
  for (const bool rounded : {false, true}) {
    torch::manual_seed(1337);
    Gpt model(config, OpsPath::reference);
    expect_next_uniforms(recorded);
    if (rounded) set_parameter_precision(model, at::kBFloat16, control_patterns());
    const StateDict state = state_dict(model);
    EXPECT_EQ(names_of(state), recorded.at("state_dict_order").get<std::vector<std::string>>());
    for (size_t i = 0; i < state.size(); ++i) {
      const auto& [name, tensor] = state[i];
      expect_initial(tensor, recorded.at(rounded ? "params_bf16_mode" : "params").at(name), parameters[i].initialization, rounded,
                     name);
    }
  }
}

TEST_P(RecordInit, FullSize) {
  const auto recorded = load("record_size.json");
  const ModelConfig config = record_model(GetParam(), recorded.at("env"));
  EXPECT_EQ(config.parameter_count(), recorded.at("n_params").get<int64_t>());
  const BlockOrder full = config.full_order();
  EXPECT_EQ(full.encoder, recorded.at("encoder_looped").get<std::vector<int>>());
  EXPECT_EQ(full.decoder, recorded.at("decoder_looped").get<std::vector<int>>());
  EXPECT_EQ(config.skip_count(), recorded.at("num_skip_weights").get<int64_t>());
  EXPECT_EQ(config.order(0).skips(), recorded.at("num_encoder_layers_unlooped").get<int64_t>());
  std::vector<int> parallel, exclusive;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    if (config.parallel(layer)) parallel.push_back(layer);
    if (config.exclusive(layer)) exclusive.push_back(layer);
  }
  EXPECT_EQ(exclusive, recorded.at("xsa_blocks").get<std::vector<int>>());
  EXPECT_EQ(parallel, recorded.at("parallel_blocks").get<std::vector<int>>());
  const auto parameters = model_parameters(config);
  EXPECT_EQ(parameters.size(), recorded.at("shapes").size());
  for (const auto& parameter : parameters) {
    EXPECT_EQ(parameter.shape, recorded.at("shapes").at(parameter.name).get<std::vector<int64_t>>()) << parameter.name;
  }
  torch::manual_seed(1337);
  Gpt model(config, OpsPath::reference);
  expect_next_uniforms(recorded);
  if (recorded.at("initial_tensors").is_null()) return;
  const StateDict state = state_dict(model);
  for (size_t i = 0; i < state.size(); ++i) {
    const auto& tensors = recorded.at("initial_tensors");
    if (!tensors.contains(state[i].first)) continue;
    json described = tensors.at(state[i].first);
    described["abs_max"] = state[i].second.abs().max().item<double>();  // not recorded
    expect_initial(state[i].second, described, parameters[i].initialization, false, state[i].first);
  }
}

TEST_P(RecordInit, OrderOfEveryPhase) {
  const auto recorded = load("config.json");
  const ModelConfig config = record_model(GetParam(), recorded.at("env"));
  const auto expect = [&](int phase, const json& encoder, const json& decoder) {
    const BlockOrder order = config.order(extra_passes(config, phase));
    EXPECT_EQ(order.encoder, encoder.get<std::vector<int>>());
    EXPECT_EQ(order.decoder, decoder.get<std::vector<int>>());
  };
  expect(2, recorded.at("encoder_indices_looped"), recorded.at("decoder_indices_looped"));
  EXPECT_EQ(config.skip_count(), recorded.at("num_skip_weights").get<int64_t>());
  for (int layer = 0; layer < config.num_layers; ++layer) {
    EXPECT_EQ(config.norm_factor(layer), recorded.at("ln_scale_factors").at(static_cast<size_t>(layer)).get<double>());
  }
  const auto& phases = recorded.at("phases");
  for (int phase = 0; phase <= 2 && !phases.is_null(); ++phase) {
    const std::string prefix = "phase" + std::to_string(phase);
    expect(phase, phases.at(prefix + "_enc"), phases.at(prefix + "_dec"));
  }
}

TEST_P(RecordInit, OptimizerGroups) {
  const auto recorded = load("config.json");
  Gpt model(record_model(GetParam(), recorded.at("env")), OpsPath::reference);
  const ParameterGroups groups = split_parameters(model, control_patterns());
  const auto expect_names = [&](const StateDict& group, const char* name) {
    EXPECT_EQ(names_of(group), recorded.at("optimizer_groups").at(name).get<std::vector<std::string>>()) << name;
  };
  expect_names(groups.tok_emb, "tok");
  expect_names(groups.matrix, "muon");
  expect_names(groups.scalar, "scalar");
  EXPECT_TRUE(groups.lm_head.empty());
}

INSTANTIATE_TEST_SUITE_P(Programs, RecordInit, ::testing::Values('A', 'B', 'D'),
                         [](const auto& info) { return std::string(1, info.param); });

TEST_F(ReferenceTest, RecordInitTokenExtras) {
  const auto size = load_json("records/C_valcalib_gptq_xsa/record_size.json");
  const ModelConfig full = record_model('C', size.at("env"));
  EXPECT_EQ(full.parameter_count(), size.at("n_params").get<int64_t>());
  const auto sorted = [](const std::vector<std::string>& names) { return std::set<std::string>(names.begin(), names.end()); };
  std::vector<std::string> names;
  for (const Parameter& parameter : model_parameters(full)) names.push_back(parameter.name);
  EXPECT_EQ(sorted(names), sorted(size.at("unbanked_order").get<std::vector<std::string>>()));

  // C draws its weights in another order: they are recorded, and the model's have the same distribution.
  const auto recorded = load_json("records/c_init/initial_state.json");
  auto tensors = load_tensors("records/c_init/initial_state.safetensors");
  const ModelConfig config = record_model('C', recorded.at("env"));
  torch::manual_seed(1337);
  Gpt model(config, OpsPath::reference);
  auto parameters = model->named_parameters();
  for (const auto& zero : recorded.at("all_zero")) {
    const auto name = zero.get<std::string>();
    EXPECT_EQ(parameters[name].abs().max().item<float>(), 0) << name;
    tensors[name] = at::zeros_like(parameters[name]);
  }
  for (const auto& item : parameters) {
    ASSERT_TRUE(tensors.contains(item.key())) << item.key();
    auto& expected = tensors[item.key()];
    ASSERT_EQ(expected.numel(), item.value().numel()) << item.key();
    expected = expected.view(item.value().sizes());  // scalars are recorded as vectors
    if (expected.numel() == 1) {
      EXPECT_EQ(item.value().item<float>(), expected.item<float>()) << item.key();
    }
    const double norm = expected.norm().item<double>();
    EXPECT_NEAR(item.value().norm().item<double>(), norm, 0.02 * norm) << item.key();
  }
  load_state_dict(model, state_for(config, tensors), "recording");
}

TEST_F(ReferenceTest, RecordInitOrthogonalMatricesInFull) {
  const auto recorded = load_tensors("records/A_sdclip_loop/init.safetensors");
  torch::manual_seed(1337);
  Gpt model(record_model('A', load_json("records/A_sdclip_loop/init.json").at("env")), OpsPath::reference);
  const auto& blocks = model->blocks;
  EXPECT_LE(relative_error(blocks[0]->attn->c_q->weight, recorded.at("blocks.0.attn.c_q.weight")), kOrthogonal);
  EXPECT_LE(relative_error(blocks[4]->attn->c_v->weight, recorded.at("blocks.4.attn.c_v.weight")), kOrthogonal);
  EXPECT_LE(relative_error(blocks[4]->mlp->fc->weight.narrow(0, 0, 64), recorded.at("blocks.4.mlp.fc.weight.rows0_63")),
            kOrthogonal);
}

}  // namespace
}  // namespace pgolf::reference
