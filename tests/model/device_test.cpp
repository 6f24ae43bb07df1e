// Whole models on every device: the fast path there against the same weights by definition in float32 on the CPU.
#include "support/device.h"

#include "pgolf/model/generate.h"
#include "support/models.h"

namespace pgolf::testing::devices {
namespace {

/// Three layers, so that there is a skip connection and a middle; heads of 32 dims, two to a key.
ModelConfig device_config(int rope_dims) {
  ModelConfig config;
  config.vocab_size = 320;
  config.num_layers = 3;
  config.model_dim = 128;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.rope_dims = rope_dims;
  return config;
}

/// One model by definition in float32 on the CPU, and the same on a device, fast, as a run in `dtype` has it. The weights are
/// numbers that bfloat16 can hold, so that both have the same.
struct Pair {
  Pair(const ModelConfig& config, const at::Device& device, at::ScalarType dtype)
      : exact(make_model(config)), there(make_model(config, 6, OpsPath::fast)) {
    const torch::NoGradGuard no_grad;
    for (auto& parameter : exact->parameters()) {
      // Enough that no projection is zero, and so little that layers do not amplify what is rounded.
      parameter.add_(torch::randn_like(parameter) * 0.05);
      parameter.copy_(parameter.to(at::kBFloat16));
    }
    set_parameter_precision(there, dtype, OptimConfig().control_patterns);
    load_state_dict(there, state_dict(exact), "the same weights");
    there->to(device);
  }

  Gpt exact, there;
};

const char* dtype_text(at::ScalarType dtype) {
  return dtype == at::kFloat ? "float32" : "bfloat16";
}

class DeviceModel : public DeviceTest {
 protected:
  /// The losses of two micro-batches, and their gradients added up.
  void expect_same_loss_and_gradients(const ModelConfig& config, at::ScalarType dtype) {
    Pair models(config, device(), dtype);
    const RunSettings settings(device(), dtype);
    // float32: sums in another order, 2^-24 = 6e-8 a term (2^-17 on AMX tiles), through three layers forth and back.
    // bfloat16: each activation is rounded by up to 2^-9 = 2e-3, some 30 of them in series. Their errors add up as a random walk
    // does, to about 1e-2; the loss is a mean over many.
    const bool exact = dtype == at::kFloat;
    const double loss_tolerance = exact ? 1e-5 : 3e-3, tolerance = exact ? 5e-5 : 5e-2;
    // A gain's gradient is a sum over all positions, most of which cancels.
    const double gain_tolerance = 4 * tolerance;
    for (const int64_t seed : {11, 12}) {
      const auto ids = random_ids(3, 49, config.vocab_size, seed);
      const auto inputs = ids.narrow(1, 0, 48), targets = ids.narrow(1, 1, 48);
      const auto expected = models.exact(inputs, targets);
      const auto loss = models.there(inputs.to(device()), targets.to(device()));
      EXPECT_EQ(loss.scalar_type(), at::kFloat);
      EXPECT_NEAR(loss.item<double>(), expected.item<double>(), loss_tolerance * expected.item<double>());
      expected.backward();
      loss.backward();
    }
    const auto got = models.there->named_parameters();
    for (const auto& item : models.exact->named_parameters()) {
      const auto& gradient = got[item.key()].grad();
      ASSERT_TRUE(gradient.defined()) << item.key();
      ASSERT_GT(item.value().grad().abs().max().item<float>(), 0) << item.key();
      const bool gain = item.key().ends_with("q_gain");
      EXPECT_LE(mean_error(gradient, item.value().grad()), gain ? gain_tolerance : tolerance) << item.key();
    }
  }
};

TEST_P(DeviceModel, LossAndAllGradientsForEveryRotation) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const int rope_dims : {2, 16, 32, 0}) {
      SCOPED_TRACE(c10::str(dtype_text(dtype), ", rope_dims ", rope_dims, " of 32"));
      expect_runs([&] { expect_same_loss_and_gradients(device_config(rope_dims), dtype); });
    }
  }
}

TEST_P(DeviceModel, LossAndAllGradientsOfOtherShapes) {
  ModelConfig untied = device_config(16);
  untied.tie_embeddings = false;
  ModelConfig llama = untied;
  llama.unet_skips = llama.resid_mix = llama.qk_norm = false;
  llama.norm_weights = true;
  llama.mlp_kind = MlpKind::swiglu;
  llama.logit_softcap = 0;
  ModelConfig pythia = llama;
  pythia.parallel_block = true;
  pythia.mlp_kind = MlpKind::gelu;
  pythia.num_kv_heads = 4;
  ModelConfig one_key = device_config(32);
  one_key.num_kv_heads = 1;
  ModelConfig windows = device_config(16);
  windows.attention_window = {8, 0};
  windows.key_offset = true;
  ModelConfig april = device_config(16);  // the parts of the records
  april.mlp_kind = MlpKind::leaky_relu2;
  april.ln_scale = april.skip_gates = true;
  april.xsa_last_n = 3;
  april.parallel_residual_start = 2;
  april.num_loops = april.loop_start = april.loop_end = 1;
  ModelConfig march = device_config(16);
  march.mlp_kind = MlpKind::leaky_relu2;
  march.ln_scale = march.smear_gate = true;
  march.xsa_last_n = 2;
  march.bigram_vocab_size = 100;
  march.bigram_dim = march.ve_dim = 64;
  march.ve_layers = {1, 2};
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const auto& [name, config] : {std::pair{"untied", &untied},
                                       {"llama", &llama},
                                       {"pythia", &pythia},
                                       {"one key", &one_key},
                                       {"windows", &windows},
                                       {"april", &april},
                                       {"march", &march}}) {
      SCOPED_TRACE(c10::str(dtype_text(dtype), ", ", name));
      expect_runs([&, config = config] { expect_same_loss_and_gradients(*config, dtype); });
    }
  }
}

TEST_P(DeviceModel, TokenLossesAreThoseOfTheDefinition) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(dtype_text(dtype));
    expect_runs([&] {
      Pair models(device_config(16), device(), dtype);
      const RunSettings settings(device(), dtype);
      const auto ids = random_ids(2, 41, 320);
      const auto inputs = ids.narrow(1, 0, 40), targets = ids.narrow(1, 1, 40);
      const auto got = models.there->token_losses(inputs.to(device()), targets.to(device()));
      EXPECT_EQ(got.scalar_type(), at::kFloat);
      EXPECT_LE(mean_error(got, models.exact->token_losses(inputs, targets)), dtype == at::kFloat ? 1e-5 : 5e-3);
    });
  }
}

TEST_P(DeviceModel, ExtendingGivesTheLogitsOfTheWholeText) {
  const torch::NoGradGuard no_grad;
  constexpr int64_t length = 75;  // past the first 64 positions, with which a cache begins
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const int rope_dims : {16, 32, 0}) {
      SCOPED_TRACE(c10::str(dtype_text(dtype), ", rope_dims ", rope_dims));
      Pair models(device_config(rope_dims), device(), dtype);
      const RunSettings settings(device(), dtype);
      const auto ids = random_ids(2, length, 320), there = ids.to(device());
      const auto expected = models.exact->logits(ids);
      // See the gradients' tolerances.
      const double tolerance = dtype == at::kFloat ? 2e-5 : 3e-2;
      expect_runs([&] { EXPECT_LE(mean_error(models.there->logits(there), expected), tolerance) << "at once"; });
      for (const auto& parts : {std::vector<int64_t>{20, 1, 1, 7, 1, 30, 15}, {1, 1, 61, 12}, {75}}) {
        expect_runs([&] {
          KvCache cache = models.there->make_cache(length);
          std::vector<at::Tensor> logits;
          for (const int64_t part : parts) logits.push_back(models.there->extend(there.narrow(1, cache.length(), part), cache));
          EXPECT_LE(mean_error(at::cat(logits, 1), expected), tolerance) << "parts of " << at::IntArrayRef(parts);
        });
      }
    }
  }
}

TEST_P(DeviceModel, GeneratesTheTokensOfTheDefinition) {
  Pair models(device_config(16), device(), at::kFloat);
  const RunSettings settings(device(), at::kFloat);
  const std::vector<int> prompt{7, 300, 41, 19, 88};
  GenerateOptions options;
  options.temperature = 0;
  options.max_new_tokens = 24;
  options.context = 16;  // so that the older half is forgotten twice
  const auto expected = generate(models.exact, prompt, options, at::kCPU);
  ASSERT_EQ(expected.size(), 24u);
  // The likeliest token must be so by more than rounding.
  Continuation by_definition(models.exact, prompt, options.context, at::kCPU);
  for (const int id : expected) {
    const auto best = std::get<0>(by_definition.logits().topk(2));
    ASSERT_GT((best[0] - best[1]).item<float>(), 1e-2) << "take another prompt";
    by_definition.push(id);
  }
  for (const bool kv_cache : {true, false}) {
    options.kv_cache = kv_cache;
    expect_runs([&] { EXPECT_EQ(generate(models.there, prompt, options, device()), expected) << (kv_cache ? "" : "no cache"); });
  }
}

PGOLF_ON_EVERY_DEVICE(DeviceModel);

}  // namespace
}  // namespace pgolf::testing::devices
