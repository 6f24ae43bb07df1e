// Extending a cache gives what the whole text gives at once, for every shape and rotation.
#include "pgolf/model/kv_cache.h"

#include <functional>

#include "support/models.h"

namespace pgolf::testing {
namespace {

using Change = std::function<void(ModelConfig&)>;

struct Case {
  const char* name;
  Change change;
};

/// 3 layers, so that the U-Net has a skip and a middle; heads of 16 dims, which the fast attention takes.
ModelConfig base_config() {
  ModelConfig config = tiny_config();
  config.num_layers = 3;
  config.model_dim = 64;
  return config;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"baseline", [](ModelConfig&) {}},
      {"every head its own key", [](ModelConfig& c) { c.num_kv_heads = 4; }},
      {"one key head", [](ModelConfig& c) { c.num_kv_heads = 1; }},
      {"no rotation", [](ModelConfig& c) { c.rope_dims = 0; }},
      {"partial", [](ModelConfig& c) { c.rope_dims = 6; }},
      {"interleaved", [](ModelConfig& c) { c.rope_dims = 6, c.rope.style = RopeStyle::interleaved; }},
      {"high", [](ModelConfig& c) { c.rope_dims = 6, c.rope.select = RopeSelect::high; }},
      {"low", [](ModelConfig& c) { c.rope_dims = 6, c.rope.select = RopeSelect::low; }},
      {"uniform", [](ModelConfig& c) { c.rope_dims = 8, c.rope.select = RopeSelect::uniform; }},
      {"per layer",
       [](ModelConfig& c) {
         c.rope_dims = {16, 0, 4};
       }},
      {"linear", [](ModelConfig& c) { c.rope.scaling = RopeScaling::linear, c.rope.scaling_factor = 2; }},
      {"ntk", [](ModelConfig& c) { c.rope.scaling = RopeScaling::ntk, c.rope.scaling_factor = 2; }},
      {"yarn",
       [](ModelConfig& c) { c.rope.scaling = RopeScaling::yarn, c.rope.scaling_factor = 2, c.rope.original_seq_len = 32; }},
      {"bfloat16 table", [](ModelConfig& c) { c.rope.table_dtype = RopeTableDtype::bfloat16; }},
      {"no U-Net", [](ModelConfig& c) { c.unet_skips = false; }},
      {"no mix", [](ModelConfig& c) { c.resid_mix = false; }},
      {"parallel", [](ModelConfig& c) { c.parallel_block = c.norm_weights = true; }},
      {"norm weights", [](ModelConfig& c) { c.norm_weights = true; }},
      {"no q/k norm", [](ModelConfig& c) { c.qk_norm = false; }},
      {"no soft cap", [](ModelConfig& c) { c.logit_softcap = 0; }},
      {"swiglu, untied", [](ModelConfig& c) { c.mlp_kind = MlpKind::swiglu, c.tie_embeddings = false; }},
      {"heads of 8 dims", [](ModelConfig& c) { c.num_heads = 8; }},
      {"looped", [](ModelConfig& c) { c.num_loops = 2, c.loop_start = 1, c.loop_end = 2; }},
      {"a loop of everything", [](ModelConfig& c) { c.num_loops = 1, c.loop_start = 0, c.loop_end = 2; }},
      {"parallel from the second", [](ModelConfig& c) { c.parallel_residual_start = 1; }},
      {"window", [](ModelConfig& c) { c.attention_window = {5}; }},
      {"windows per layer, no rotation in the others",
       [](ModelConfig& c) {
         c.attention_window = {1, 30, 0}, c.rope_dims = {16, 16, 0};
       }},
      {"key offset", [](ModelConfig& c) { c.key_offset = true, c.rope_dims = 6; }},
      {"key offset, uniform, interleaved, window",
       [](ModelConfig& c) {
         c.key_offset = true, c.rope_dims = 6, c.rope.select = RopeSelect::uniform, c.rope.style = RopeStyle::interleaved;
         c.attention_window = {9};
       }},
      {"exclusive", [](ModelConfig& c) { c.xsa_last_n = 3; }},
      {"smear", [](ModelConfig& c) { c.smear_gate = true; }},
      {"pairs", [](ModelConfig& c) { c.bigram_vocab_size = 31, c.bigram_dim = 20; }},
      {"pairs as wide as the model", [](ModelConfig& c) { c.bigram_vocab_size = 31, c.bigram_dim = 64; }},
      {"values",
       [](ModelConfig& c) {
         c.ve_layers = {0, 2}, c.ve_dim = 12;
       }},
      {"all token extras",
       [](ModelConfig& c) {
         c.smear_gate = true, c.bigram_vocab_size = 31, c.ve_layers = {1, 2}, c.ve_dim = 32;
         c.num_loops = 1, c.loop_start = c.loop_end = 1, c.xsa_last_n = 2, c.ln_scale = true;
       }},
      {"like a record",
       [](ModelConfig& c) {
         c.num_loops = 2, c.loop_start = 0, c.loop_end = 1, c.parallel_residual_start = 2, c.xsa_last_n = 11;
         c.ln_scale = c.skip_gates = true, c.mlp_kind = MlpKind::leaky_relu2, c.rope_dims = 6;
       }},
  };
  return all;
}

constexpr int64_t kLength = 75;  // past the first 64 positions, with which a cache begins

/// Logits of ids [B, T], fed in consecutive parts of these lengths.
at::Tensor in_parts(Gpt& model, const at::Tensor& ids, KvCache& cache, const std::vector<int64_t>& parts) {
  std::vector<at::Tensor> logits;
  int64_t done = 0;
  for (size_t i = 0; done < ids.size(1); ++i) {
    const int64_t part = std::min(parts[i % parts.size()], ids.size(1) - done);
    logits.push_back(model->extend(ids.narrow(1, done, part), cache));
    done += part;
    EXPECT_EQ(cache.length(), done);
  }
  return at::cat(logits, 1);
}

/// Relative to the largest logit. Rounding of float32 sums in another order: some 2^-24 a term, through three layers; where
/// products are made of bfloat16 parts, 2^-17.
constexpr double kFloatTolerance = 2e-5;

TEST(KvCache, ExtendingGivesTheLogitsOfTheWholeText) {
  torch::NoGradGuard no_grad;
  const std::vector<std::vector<int64_t>> all_parts{{kLength}, {1}, {7, 1, 1, 3}, {63, 1, 2, 1}};
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    for (const auto& [name, change] : cases()) {
      ModelConfig config = base_config();
      change(config);
      Gpt model = make_random_model(config, 5, path);
      const auto ids = random_ids(2, kLength, config.vocab_size);
      const auto whole = model->logits(ids);
      for (const auto& parts : all_parts) {
        KvCache cache = model->make_cache(kLength);
        EXPECT_LE(distance(in_parts(model, ids, cache, parts), whole), kFloatTolerance * whole.abs().max().item<double>())
            << name << (path == OpsPath::fast ? ", fast" : ", reference") << ", parts of " << parts[0];
      }
    }
  }
}

TEST(KvCache, InBfloat16TheDifferenceIsNoLargerThanThatOfTheRounding) {
  torch::NoGradGuard no_grad;
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    for (const auto& [name, change] : cases()) {
      ModelConfig config = base_config();
      change(config);
      Gpt model = make_random_model(config, 5, path);
      set_parameter_precision(model, at::kBFloat16, OptimConfig().control_patterns);
      Gpt exact = make_model(config, 5, OpsPath::reference);
      load_state_dict(exact, state_dict(model), "the same weights");
      const auto ids = random_ids(1, kLength, config.vocab_size);
      const auto whole = model->logits(ids);
      ASSERT_EQ(whole.scalar_type(), path == OpsPath::fast ? at::kFloat : at::kBFloat16);
      KvCache cache = model->make_cache(kLength);
      // Both are the exact logits plus rounding of its own kind, which differs in attention only.
      const double rounding = distance(whole, exact->logits(ids));
      EXPECT_LE(distance(in_parts(model, ids, cache, {20, 1}), whole), 2 * rounding) << name;
    }
  }
}

TEST(KvCache, TheLastPositionAloneHasTheSameLogits) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(base_config());
  const auto ids = random_ids(2, 9, 48);
  KvCache all = model->make_cache(9), last = model->make_cache(9);
  const auto expected = model->extend(ids, all);
  const auto logits = model->extend(ids, last, GptImpl::Positions::last);
  EXPECT_EQ(logits.sizes(), (std::vector<int64_t>{2, 1, 48}));
  EXPECT_LE(distance(logits, expected.narrow(1, 8, 1)), 1e-5);
}

TEST(KvCache, GrowsInStepsUpToItsCapacity) {
  torch::NoGradGuard no_grad;
  const ModelConfig config = base_config();
  Gpt model = make_random_model(config);
  const auto ids = random_ids(2, 150, config.vocab_size);
  KvCache cache = model->make_cache(150);
  const auto bytes = [&](int64_t positions) { return 2 * config.num_layers * 2 * config.num_kv_heads * 16 * positions * 4; };
  EXPECT_EQ(cache.bytes(), 0);
  model->extend(ids.narrow(1, 0, 1), cache);
  EXPECT_EQ(cache.bytes(), bytes(64));
  model->extend(ids.narrow(1, 1, 64), cache);
  EXPECT_EQ(cache.bytes(), bytes(128));
  model->extend(ids.narrow(1, 65, 85), cache);
  EXPECT_EQ(cache.bytes(), bytes(150)) << "not beyond the capacity";
  EXPECT_THROW(model->extend(ids.narrow(1, 0, 1), cache), c10::Error);
  EXPECT_EQ(cache.length(), 150);
}

TEST(KvCache, ForgottenPositionsDoNotCount) {
  torch::NoGradGuard no_grad;
  const auto ids = random_ids(1, 30, 48), other = random_ids(1, 30, 48, 12);
  for (const auto& [name, change] : cases()) {
    ModelConfig config = base_config();
    change(config);
    Gpt model = make_random_model(config);
    KvCache cache = model->make_cache(64);
    model->extend(at::cat({ids.narrow(1, 0, 20), other}, 1), cache);
    cache.truncate(20);
    const auto logits = model->extend(ids.narrow(1, 20, 10), cache);
    EXPECT_LE(distance(logits, model->logits(ids).narrow(1, 20, 10)), 1e-4) << name;
    cache.truncate(0);
    EXPECT_LE(distance(model->extend(other, cache), model->logits(other)), 1e-4) << name;
    EXPECT_THROW(cache.truncate(31), c10::Error);
  }
}

TEST(KvCache, IsForThePassesThatTheModelMakes) {
  torch::NoGradGuard no_grad;
  ModelConfig config = base_config();
  config.num_loops = 2, config.loop_start = 1, config.loop_end = 2;
  Gpt model = make_random_model(config);
  const auto ids = random_ids(1, 30, 48);
  KvCache full = model->make_cache(30);
  EXPECT_EQ(full.passes(), 7);
  model->set_extra_passes(1);
  EXPECT_THROW(model->extend(ids, full), c10::Error);
  KvCache cache = model->make_cache(30);
  EXPECT_EQ(cache.passes(), 5);
  model->extend(ids.narrow(1, 0, 20), cache);
  EXPECT_LE(distance(model->extend(ids.narrow(1, 20, 10), cache), model->logits(ids).narrow(1, 20, 10)), 1e-4);
}

TEST(KvCache, TextsWithCachesOfTheirOwnDoNotMeet) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(base_config());
  const auto a = random_ids(1, 12, 48), b = random_ids(1, 8, 48, 12);
  KvCache of_a = model->make_cache(32), of_b = model->make_cache(32);
  model->extend(a.narrow(1, 0, 11), of_a);
  model->extend(b.narrow(1, 0, 7), of_b);
  EXPECT_LE(distance(model->extend(a.narrow(1, 11, 1), of_a), model->logits(a).narrow(1, 11, 1)), 1e-4);
  EXPECT_LE(distance(model->extend(b.narrow(1, 7, 1), of_b), model->logits(b).narrow(1, 7, 1)), 1e-4);
}

}  // namespace
}  // namespace pgolf::testing
