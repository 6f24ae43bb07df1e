// Logits, loss, the values inside the blocks, and every gradient, of one fixed state and input.
#include "pgolf/base/format.h"
#include "pgolf/ops/attention.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"
#include "support.h"

namespace pgolf::reference {
namespace {

using Forward = ReferenceTest;

// Relative to each tensor's largest entry; reference/README.md, "Sensible tolerances".
struct Tolerance {
  double value, gradient, loss;
};
constexpr Tolerance float32{1e-5, 3e-5, 5e-6};
constexpr Tolerance bfloat16{4e-2, 4e-2, 1e-2};

Gpt load_model(const ModelConfig& config, const StateDict& state, at::ScalarType dtype, OpsPath path) {
  Gpt model(config, path);
  set_parameter_precision(model, dtype, control_patterns());
  load_state_dict(model, state, "recording");
  return model;
}

void check_blocks(Gpt& model, const at::Tensor& ids, const std::map<std::string, at::Tensor>& recorded,
                  const Tolerance& tolerance) {
  torch::NoGradGuard no_grad;
  constexpr auto path = OpsPath::reference;
  const auto x0 = ops::rms_norm(model->tok_emb(ids), path);
  auto x = x0;
  std::vector<at::Tensor> skips;
  const size_t encoder = model->blocks.size() / 2;
  for (size_t i = 0; i < model->blocks.size(); ++i) {
    if (i >= encoder) {
      x = ops::scaled_add(x, model->skip_weights[static_cast<int64_t>(i - encoder)], skips.back(), path);
      skips.pop_back();
    }
    auto& block = model->blocks[i];
    const auto h = ops::rms_norm(ops::residual_mix(x, x0, block->resid_mix, path), path);
    const auto split = [&](const at::Tensor& y, int64_t heads) { return y.view({2, 128, heads, 32}); };
    const auto [q, k] = ops::qk_norm_rope_gain(split(block->attn->c_q(h, path), 4), split(block->attn->c_k(h, path), 2),
                                               block->attn->q_gain, block->attn->rotary->table(128, at::kCPU).get(), path);
    const auto v = split(block->attn->c_v(h, path), 2).transpose(1, 2);
    const auto check = [&](const at::Tensor& actual, const std::string& name) {
      const auto found = recorded.find(name);
      if (found != recorded.end()) expect_equal(actual, found->second, tolerance.value, name);
    };
    const auto prefix = format("blocks.%zu.", i);
    check(q, prefix + "attn.q_after_rope_gain");
    check(k, prefix + "attn.k_after_rope");
    check(v, prefix + "attn.v");
    check(ops::causal_attention(q, k, v, path), prefix + "attn.sdpa_out");
    x = block(x, x0);
    check(x, prefix + "output");
    if (i < encoder) skips.push_back(x);
  }
}

void check_forward(const char* file, const StateDict& state, at::ScalarType dtype, const Tolerance& tolerance, bool inside) {
  const auto recorded = load_tensors(format("forward/%s.safetensors", file));
  const auto described = load_json(format("forward/%s.json", file));
  ModelConfig config = tiny_model();
  // The recorded program rounds its rope buffer together with everything else.
  if (dtype == at::kBFloat16) config.rope.table_dtype = RopeTableDtype::bfloat16;
  Gpt model = load_model(config, state, dtype, OpsPath::reference);
  const auto x = recorded.at("input_ids").to(at::kLong), y = recorded.at("target_ids").to(at::kLong);

  const auto loss = model(x, y);
  EXPECT_NEAR(loss.item<double>(), described.at("loss").get<double>(), same_processor() ? 0.0 : tolerance.loss);
  {
    torch::NoGradGuard no_grad;
    const auto logits = model->logits(x);
    const auto check = [&](const char* name, const at::Tensor& part) {
      if (recorded.count(name) != 0) expect_equal(part, recorded.at(name), tolerance.value, name);
    };
    check("logits_softcapped.batch0", logits.narrow(0, 0, 1));
    check("logits_softcapped.every16th", logits.slice(1, 15, std::nullopt, 16));
    check("logits_softcapped.last16", logits.slice(1, 112));
    expect_described(logits.to(at::kFloat), described.at("logits_softcapped"), tolerance.value, "logits");
  }
  if (inside) check_blocks(model, x, recorded, tolerance);

  loss.backward();
  std::set<std::string> zero;
  for (const auto& name : described.at("exactly_zero_grads")) zero.insert(name.get<std::string>());
  for (const auto& item : model->named_parameters()) {
    const auto& gradient = item.value().grad();
    if (zero.count(item.key()) != 0) {
      EXPECT_EQ(gradient.abs().max().item<double>(), 0.0) << item.key();
    } else {
      expect_described(gradient, described.at("grads").at(item.key()), tolerance.gradient, "gradient of " + item.key());
    }
    const auto found = recorded.find("grad." + item.key());
    if (found != recorded.end()) expect_equal(gradient, found->second, tolerance.gradient, "gradient of " + item.key());
  }
}

StateDict initial_state(at::ScalarType dtype) {
  torch::manual_seed(1337);
  Gpt model(tiny_model(), OpsPath::reference);
  set_parameter_precision(model, dtype, control_patterns());
  StateDict state;
  for (const auto& [name, tensor] : state_dict(model)) state.emplace_back(name, tensor.clone());
  return state;
}

TEST_F(Forward, Float32Perturbed) {
  check_forward("forward_fp32_perturbed", load_state("forward/perturbed_state.safetensors"), at::kFloat, float32, true);
}
TEST_F(Forward, Float32Initial) {
  check_forward("forward_fp32_init", initial_state(at::kFloat), at::kFloat, float32, false);
}
TEST_F(Forward, Bfloat16Perturbed) {
  check_forward("forward_bf16_perturbed", load_state("forward/perturbed_state.safetensors"), at::kBFloat16, bfloat16, true);
}
TEST_F(Forward, Bfloat16Initial) {
  check_forward("forward_bf16_init", initial_state(at::kBFloat16), at::kBFloat16, bfloat16, false);
}

class PartialForward : public ReferenceTest, public ::testing::WithParamInterface<std::pair<const char*, int>> {};

void check_partial(const char* name, int rope_dims, OpsPath path) {
  const auto all = load_json("attention_partial/attention_partial.json");
  const auto& described = all.at("cases").at(name);
  const auto recorded = load_tensors(format("attention_partial/%s.safetensors", name));
  ModelConfig config = tiny_model();
  config.rope_dims = rope_dims;
  Gpt model = load_model(config, load_state("forward/perturbed_state.safetensors"), at::kFloat, path);
  for (auto& block : model->blocks) EXPECT_EQ(block->attn->rotary->rope_dims(), rope_dims);
  const auto x = recorded.at("input_ids").to(at::kLong), y = recorded.at("target_ids").to(at::kLong);
  const bool exact = path == OpsPath::reference;
  // A fused operation rounds in other places, so it is held to the tolerance on every processor.
  const auto check = [&](const at::Tensor& actual, const at::Tensor& expected, double tolerance, const std::string& what) {
    if (exact) {
      expect_equal(actual, expected, tolerance, what);
    } else {
      EXPECT_LE(relative_error(actual, expected), tolerance) << what;
    }
  };
  const auto loss = model(x, y);
  EXPECT_NEAR(loss.item<double>(), described.at("loss").get<double>(), exact && same_processor() ? 0.0 : float32.loss);
  {
    torch::NoGradGuard no_grad;
    check(model->logits(x).slice(1, 15, std::nullopt, 16), recorded.at("logits_softcapped.every16th"), float32.value, "logits");
  }
  loss.backward();
  for (const auto& item : model->named_parameters()) {
    const auto found = recorded.find("grad." + item.key());
    if (found != recorded.end()) check(item.value().grad(), found->second, float32.gradient, "gradient of " + item.key());
    if (exact)
      expect_described(item.value().grad(), described.at("grads").at(item.key()), float32.gradient, "gradient of " + item.key());
  }
}

TEST_P(PartialForward, Reference) {
  check_partial(GetParam().first, GetParam().second, OpsPath::reference);
}
TEST_P(PartialForward, Fast) {
  check_partial(GetParam().first, GetParam().second, OpsPath::fast);
}

INSTANTIATE_TEST_SUITE_P(RopeDims, PartialForward,
                         ::testing::Values(std::pair{"R0_full", 32}, std::pair{"R2", 2}, std::pair{"R8", 8}, std::pair{"R16", 16},
                                           std::pair{"R32", 32}, std::pair{"none", 0}),
                         [](const auto& info) { return std::string(info.param.first); });

TEST_F(Forward, FastPathWithinTolerance) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const bool half = dtype == at::kBFloat16;
    const auto& tolerance = half ? bfloat16 : float32;
    const auto file = half ? "forward_bf16_perturbed" : "forward_fp32_perturbed";
    const auto recorded = load_tensors(format("forward/%s.safetensors", file));
    ModelConfig config = tiny_model();
    if (half) config.rope.table_dtype = RopeTableDtype::bfloat16;
    Gpt model = load_model(config, load_state("forward/perturbed_state.safetensors"), dtype, OpsPath::fast);
    const auto x = recorded.at("input_ids").to(at::kLong), y = recorded.at("target_ids").to(at::kLong);
    const auto loss = model(x, y);
    EXPECT_NEAR(loss.item<double>(), recorded.at("loss").item<double>(), tolerance.loss);
    loss.backward();
    for (const auto& item : model->named_parameters()) {
      const auto found = recorded.find("grad." + item.key());
      if (found != recorded.end()) {
        EXPECT_LE(relative_error(item.value().grad(), found->second), tolerance.gradient) << item.key();
      }
    }
    torch::NoGradGuard no_grad;
    EXPECT_LE(relative_error(model->logits(x).narrow(0, 0, 1), recorded.at("logits_softcapped.batch0")), tolerance.value);
  }
}

}  // namespace
}  // namespace pgolf::reference
