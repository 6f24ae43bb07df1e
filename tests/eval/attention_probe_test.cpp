#include "pgolf/eval/attention_probe.h"

#include "support/models.h"

namespace pgolf::testing {
namespace {

constexpr int64_t kProbeTime = 12;

/// Specifications that take different code paths of the rotation, for a head of 8 dims.
std::vector<RopeSpec> probed_specs() {
  std::vector<RopeSpec> specs;
  for (const auto style : {RopeStyle::half, RopeStyle::interleaved}) {
    for (const auto select : {RopeSelect::prefix, RopeSelect::high, RopeSelect::low, RopeSelect::uniform}) {
      for (const int dims : {2, 4, 8}) {
        RopeSpec spec{8, dims};
        spec.style = style;
        spec.select = select;
        specs.push_back(spec);
      }
    }
  }
  specs.push_back(
      RopeSpec{8, 6, {100.0, RopeTableDtype::float32, RopeStyle::half, RopeSelect::prefix, RopeScaling::yarn, 4.0, 64}});
  specs.push_back(RopeSpec{8, 0});
  return specs;
}

Gpt probed_model(const RopeSpec& spec, OpsPath path = OpsPath::reference) {
  ModelConfig config = tiny_config();
  config.rope = spec;
  config.rope_dims = spec.rope_dims;
  return make_random_model(config, 5, path);
}

at::Tensor probed_windows(int64_t count = 1) {
  return random_ids(count, kProbeTime, 48);
}

TEST(AttentionProbe, EqualKeysGiveUniformAttention) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(tiny_config());
  model->blocks[1]->attn->c_q->weight.zero_();
  double entropy = 0, first = 0, previous = 0;
  for (int64_t i = 0; i < kProbeTime; ++i) {
    const auto keys = static_cast<double>(i + 1);
    entropy += std::log(keys) / kProbeTime;
    first += 1 / keys / kProbeTime;
    if (i > 0) previous += 1 / keys / (kProbeTime - 1);
  }
  const auto measures = measure_attention(model, probed_windows(3), {});
  ASSERT_EQ(measures.heads.size(), 2u);
  ASSERT_EQ(measures.heads[1].size(), 4u);
  for (const auto& head : measures.heads[1]) {
    EXPECT_NEAR(head.distance, (kProbeTime - 1) / 4.0, 1e-5);
    EXPECT_NEAR(head.entropy, entropy, 1e-5);
    EXPECT_NEAR(head.first_token, first, 1e-6);
    EXPECT_NEAR(head.previous_token, previous, 1e-6);
    EXPECT_EQ(head.rotated_share, 0) << "all logits are 0";
  }
  EXPECT_GT(std::abs(measures.heads[0][0].entropy - entropy), 1e-3) << "the other layer is not";
}

TEST(AttentionProbe, FindsWhatAHeadAttendsTo) {
  const auto identity = torch::eye(kProbeTime).view({1, 1, kProbeTime, kProbeTime});
  const auto to_previous = at::cat({identity.slice(2, 0, 1), identity.slice(2, 0, kProbeTime - 1)}, 2) * 1000;
  const auto to_first = identity.slice(2, 0, 1).expand({1, 1, kProbeTime, kProbeTime}) * 1000;
  const auto all_dims = torch::ones({kProbeTime}, torch::kBool);
  const auto previous = attention_of_heads(to_previous, identity, all_dims)[0];
  EXPECT_NEAR(previous.previous_token, 1, 1e-6);
  EXPECT_NEAR(previous.distance, (kProbeTime - 1.0) / kProbeTime, 1e-5) << "query 0 sees itself";
  EXPECT_NEAR(previous.entropy, 0, 1e-5);
  const auto first = attention_of_heads(to_first, identity, all_dims)[0];
  EXPECT_NEAR(first.first_token, 1, 1e-6);
  EXPECT_NEAR(first.distance, (kProbeTime - 1) / 2.0, 1e-5);
  EXPECT_NEAR(first.previous_token, 1.0 / (kProbeTime - 1), 1e-6) << "query 1's predecessor is the first";
}

TEST(AttentionProbe, BlocksOfQueriesAreTheDefinition) {
  constexpr int64_t time = 1500;  // three blocks of queries
  const auto q = torch::randn({1, 4, time, 8}), k = torch::randn({1, 2, time, 8});
  const auto rotated = rotated_dims(RopeSpec{8, 4});
  const auto heads = attention_of_heads(q, k, rotated);
  ASSERT_EQ(heads.size(), 4u);
  const auto positions = at::arange(time, at::kDouble);
  const auto seen = at::ones({time, time}, at::kBool).tril();
  for (int64_t head = 0; head < 4; ++head) {
    const auto query = q[0][head].to(at::kDouble), key = k[0][head / 2].to(at::kDouble);
    const auto rotated = at::mm(query.slice(1, 0, 4), key.slice(1, 0, 4).t());
    const auto passed = at::mm(query.slice(1, 4), key.slice(1, 4).t());
    const auto logits = ((rotated + passed) / std::sqrt(8.0)).masked_fill(seen.logical_not(), -INFINITY);
    const auto a = at::softmax(logits, -1);
    const auto& measured = heads[static_cast<size_t>(head)];
    EXPECT_NEAR(measured.distance, (positions - at::mv(a, positions)).mean().item<double>(), 1e-2);
    EXPECT_NEAR(measured.entropy, -at::xlogy(a, a).sum(1).mean().item<double>(), 1e-4);
    EXPECT_NEAR(measured.first_token, a.select(1, 0).mean().item<double>(), 1e-6);
    EXPECT_NEAR(measured.previous_token, a.diagonal(-1).mean().item<double>(), 1e-6);
    const auto share = rotated.abs() / (rotated.abs() + passed.abs());
    EXPECT_NEAR(measured.rotated_share, share.masked_select(seen).mean().item<double>(), 1e-4);
  }
}

TEST(AttentionProbe, SharesOfPairsAreTheirPartsOfTheLogits) {
  constexpr int64_t time = 9;
  const auto q = torch::randn({1, 4, time, 8}), k = torch::randn({1, 2, time, 8});
  for (const auto& spec : probed_specs()) {
    const auto shares = pair_shares_of_heads(q, k, spec, /*window=*/5);
    ASSERT_EQ(shares.size(), 4u);
    for (int64_t head = 0; head < 4; ++head) {
      std::vector<double> expected;
      std::vector<std::vector<int>> parts;
      std::vector<int> passing;
      for (int pair = 0; pair < spec.span() / 2; ++pair) {
        if (spec.rotates(pair))
          parts.push_back(spec.style == RopeStyle::half ? std::vector{pair, pair + spec.span() / 2}
                                                        : std::vector{2 * pair, 2 * pair + 1});
      }
      for (int dim = 0; dim < 8; ++dim) {
        if (!spec.rotates_dim(dim)) passing.push_back(dim);
      }
      const auto of = [&](int64_t i, int64_t j, const std::vector<int>& dims) {
        double sum = 0;
        for (const int d : dims) sum += q[0][head][i][d].item<double>() * k[0][head / 2][j][d].item<double>();
        return std::abs(sum);
      };
      expected.resize(parts.size());
      double pairs = 0;
      for (int64_t i = 0; i < time; ++i) {
        for (int64_t j = std::max<int64_t>(0, i - 4); j <= i; ++j, ++pairs) {
          double all = of(i, j, passing);
          for (const auto& dims : parts) all += of(i, j, dims);
          for (size_t p = 0; p < parts.size(); ++p) expected[p] += of(i, j, parts[p]) / all;
        }
      }
      const auto& got = shares[static_cast<size_t>(head)];
      ASSERT_EQ(got.size(), expected.size());
      for (size_t p = 0; p < got.size(); ++p) EXPECT_NEAR(got[p], expected[p] / pairs, 1e-5);
    }
  }
}

TEST(AttentionProbe, SeesWhatTheModelSees) {
  // Window and key offset: the measured heads give attention's output.
  ModelConfig config = tiny_config();
  config.attention_window = {4};
  config.key_offset = true;
  config.rope_dims = 4;
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(config);
  model->blocks[0]->attn->c_q->weight.zero_();
  const auto head = measure_attention(model, probed_windows(), {}).heads[0][0];
  double entropy = 0;
  for (int64_t i = 0; i < kProbeTime; ++i) entropy += std::log(static_cast<double>(std::min<int64_t>(i + 1, 4))) / kProbeTime;
  EXPECT_NEAR(head.entropy, entropy, 1e-5);
}

TEST(AttentionProbe, RotatedDimsAreThoseThatChange) {
  const auto x = torch::randn({1, 1, 4, 8});
  for (const auto& spec : probed_specs()) {
    if (spec.none() || spec.scaling != RopeScaling::none) continue;
    const auto y = ops::apply_rope(x, ops::make_rope_table(spec, 4, at::kCPU, 3));
    EXPECT_TRUE(at::equal(rotated_dims(spec), (x != y).any(2)[0][0])) << spec.rope_dims << " " << static_cast<int>(spec.select);
    EXPECT_EQ(rotated_dims(spec).sum().item<int64_t>(), spec.rope_dims);
  }
  EXPECT_FALSE(rotated_dims(RopeSpec{8, 0}).any().item<bool>());
}

TEST(AttentionProbe, ShareIsWhatRotates) {
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    for (const auto& spec : probed_specs()) {
      Gpt model = probed_model(spec, path);
      for (const auto& layer : measure_attention(model, probed_windows(), {}).heads) {
        for (const auto& head : layer) {
          if (spec.full() || spec.none()) {
            EXPECT_NEAR(head.rotated_share, spec.full() ? 1 : 0, 1e-12);
          } else {
            EXPECT_GT(head.rotated_share, 0.02) << spec.rope_dims;
            EXPECT_LT(head.rotated_share, 0.98) << spec.rope_dims;
          }
        }
      }
    }
  }
}

TEST(AttentionProbe, LogitsDependOnDistanceOnly) {
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    for (const auto& spec : probed_specs()) {
      Gpt model = probed_model(spec, path);
      const auto measures = measure_attention(model, probed_windows(), {1, 7, 100});
      ASSERT_EQ(measures.shifts.size(), 3u);
      for (const auto& shift : measures.shifts) {
        EXPECT_GT(shift.max_logit, 0.1);
        EXPECT_LE(shift.max_change, spec.none() ? 0 : 3e-5 * shift.max_logit)
            << spec.rope_dims << " " << static_cast<int>(spec.select);
      }
    }
  }
}

TEST(AttentionProbe, ShiftingOnlyTheKeysIsDetected) {
  torch::NoGradGuard no_grad;
  for (const auto& spec : probed_specs()) {
    if (spec.none()) continue;
    Gpt model = probed_model(spec);
    auto& attention = model->blocks[0]->attn;
    const auto x = torch::randn({1, kProbeTime, 32});
    const auto here_table = ops::make_rope_table(spec, kProbeTime, at::kCPU);
    const auto moved_table = ops::make_rope_table(spec, kProbeTime, at::kCPU, 100);
    const auto here = attention->heads(x, &here_table), moved = attention->heads(x, &moved_table);
    const auto both = shift_change(here.q, here.k, moved.q, moved.k), keys = shift_change(here.q, here.k, here.q, moved.k);
    EXPECT_EQ(both.max_logit, keys.max_logit);
    EXPECT_LT(both.max_change, 1e-4);
    EXPECT_GT(keys.max_change, 0.01) << spec.rope_dims << " " << static_cast<int>(spec.select);
  }
}

TEST(AttentionProbe, WindowsAreAveragedAndTheModelLeftAsItWas) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(tiny_config());
  model->train();
  const auto windows = probed_windows(2), before = model->logits(windows);
  const auto both = measure_attention(model, windows, {3});
  const auto first = measure_attention(model, windows.slice(0, 0, 1), {3});
  const auto second = measure_attention(model, windows.slice(0, 1, 2), {3});
  for (size_t head = 0; head < 4; ++head) {
    EXPECT_NEAR(both.heads[1][head].entropy, (first.heads[1][head].entropy + second.heads[1][head].entropy) / 2, 1e-9);
    EXPECT_NEAR(both.heads[1][head].distance, (first.heads[1][head].distance + second.heads[1][head].distance) / 2, 1e-9);
  }
  EXPECT_EQ(both.shifts[0].max_logit, first.shifts[0].max_logit);
  EXPECT_TRUE(model->is_training());
  for (const auto& block : model->blocks) EXPECT_FALSE(block->attn->observer);
  EXPECT_TRUE(at::equal(model->logits(windows), before));
}

TEST(AttentionProbe, PassesOfALoopedBlockAreAveraged) {
  torch::NoGradGuard no_grad;
  ModelConfig config = tiny_config();
  config.num_loops = 2, config.loop_start = config.loop_end = 1;
  Gpt model = make_random_model(config);
  const auto windows = probed_windows(2);
  double entropy = 0;
  int64_t passes = 0;
  model->blocks[1]->attn->observer = [&](const at::Tensor& x) {
    auto& attention = model->blocks[1]->attn;
    const auto heads = attention->heads(x, attention->rotary->table(x.size(1), at::kCPU).get());
    entropy += attention_of_heads(heads.q, heads.k, rotated_dims(attention->rotary->spec()))[0].entropy;
    ++passes;
  };
  for (int64_t window = 0; window < 2; ++window) model->logits(windows.narrow(0, window, 1));
  EXPECT_EQ(passes, 2 * 3);
  EXPECT_NEAR(measure_attention(model, windows, {3}).heads[1][0].entropy, entropy / 6, 1e-9);
}

TEST(AttentionProbe, Bfloat16ModelsAreProbedInFloat32) {
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    Gpt model = probed_model(RopeSpec{8, 4}, path);
    set_parameter_precision(model, at::kBFloat16, OptimConfig().control_patterns);
    const auto measures = measure_attention(model, probed_windows(), {7});
    EXPECT_LT(measures.shifts[0].max_change, 3e-5 * measures.shifts[0].max_logit) << "bfloat16 would be off by 1e-3";
    EXPECT_GT(measures.heads[0][0].entropy, 0);
  }
}

}  // namespace
}  // namespace pgolf::testing
