#include "pgolf/eval/position_loss.h"

#include "pgolf/config/cache_size.h"
#include "pgolf/eval/measured_tables.h"
#include "support/dataset.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

ModelConfig positions_config() {
  ModelConfig config = tiny_config();
  config.vocab_size = Dataset::vocab_size;
  config.rope.rope_dims = 4;
  return config;
}

struct PositionScoring {
  explicit PositionScoring(int length, int64_t windows)
      : validation(Dataset::get().val_files(), length, windows * length, Dataset::vocab_size) {
    options.seq_len = length;
    options.batch_sequences = 4;
  }
  PositionLoss measure(Gpt& model) { return measure_positions(model, validation, byte_counts, options); }

  Tokenizer tokenizer{Dataset::get().tokenizer_path()};
  ByteCounts byte_counts{tokenizer, Dataset::vocab_size};
  ValidationSet validation;
  EvalOptions options;
};

TEST(PositionLoss, BucketsAddUpToWhatEvaluateSays) {
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    for (const int length : {1, 16, 24}) {
      PositionScoring scoring(length, 11);
      Gpt model = make_random_model(positions_config(), 5, path);
      const PositionLoss measured = scoring.measure(model);
      const EvalResult expected = evaluate(model, scoring.validation, scoring.byte_counts, scoring.options);
      EXPECT_EQ(measured.total.tokens, expected.tokens);
      EXPECT_EQ(measured.total.bytes, expected.bytes);
      EXPECT_NEAR(measured.total.val_loss, expected.val_loss, 1e-6) << length;
      EXPECT_NEAR(measured.total.val_bpb, expected.val_bpb, 1e-6) << length;
      double sum = 0;
      int64_t tokens = 0, position = 0;
      for (const auto& bucket : measured.buckets) {
        EXPECT_EQ(bucket.from, position);
        EXPECT_EQ(bucket.tokens, 11 * (bucket.to - bucket.from));
        position = bucket.to;
        sum += bucket.loss * static_cast<double>(bucket.tokens);
        tokens += bucket.tokens;
      }
      EXPECT_EQ(position, length);
      EXPECT_EQ(tokens, expected.tokens);
      EXPECT_NEAR(sum / static_cast<double>(tokens), measured.total.val_loss, 1e-12);
    }
  }
}

TEST(PositionLoss, BucketsArePowersOfTwoUpToTheLength) {
  Gpt model = make_model(positions_config());
  std::vector<std::pair<int64_t, int64_t>> bounds;
  for (const auto& bucket : PositionScoring(24, 2).measure(model).buckets) bounds.emplace_back(bucket.from, bucket.to);
  EXPECT_EQ(bounds, (std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {1, 2}, {2, 4}, {4, 8}, {8, 16}, {16, 24}}));
}

TEST(PositionLoss, EachPositionHasItsOwnLoss) {
  torch::NoGradGuard no_grad;
  PositionScoring scoring(16, 5);
  Gpt model = make_random_model(positions_config());
  const PositionLoss measured = scoring.measure(model);
  const auto tokens = scoring.validation.tokens();
  std::vector<double> window_means;
  auto by_position = at::zeros({16}, at::kDouble);
  for (size_t first = 0; first + 16 < tokens.size(); first += 16) {
    auto losses = at::zeros({16}, at::kDouble);
    for (size_t t = 0; t < 16; ++t) {  // the window's beginning alone
      const auto begin = tokens.begin() + static_cast<ptrdiff_t>(first), end = begin + static_cast<ptrdiff_t>(t) + 1;
      const auto logits =
          model->logits(torch::tensor(std::vector<int64_t>(begin, end)).view({1, -1}))[0][static_cast<int64_t>(t)];
      losses[static_cast<int64_t>(t)] = -at::log_softmax(logits.to(at::kDouble), -1)[tokens[first + t + 1]];
    }
    by_position += losses / 5;
    window_means.push_back(losses.mean().item<double>());
  }
  for (const auto& bucket : measured.buckets)
    EXPECT_NEAR(bucket.loss, by_position.slice(0, bucket.from, bucket.to).mean().item<double>(), 1e-5) << bucket.from;
  const auto means = torch::tensor(window_means, torch::kDouble);
  EXPECT_NEAR(measured.standard_error, means.std(/*unbiased=*/true).item<double>() / std::sqrt(5.0), 1e-6);
}

TEST(PositionLoss, OneWindowHasNoStandardError) {
  Gpt model = make_model(positions_config());
  EXPECT_TRUE(std::isnan(PositionScoring(16, 1).measure(model).standard_error));
}

TEST(PositionLoss, Bfloat16IsNearEvaluate) {
  PositionScoring scoring(16, 11);
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    Gpt model = make_random_model(positions_config(), 5, path);
    set_parameter_precision(model, at::kBFloat16, OptimConfig().control_patterns);
    const double expected = evaluate(model, scoring.validation, scoring.byte_counts, scoring.options).val_loss;
    EXPECT_NEAR(scoring.measure(model).total.val_loss, expected, 2e-3 * expected);
  }
}

TEST(PositionLoss, BlocksOfRowsAreCrossEntropy) {
  const auto logits = torch::randn({5, 1 << 20}), targets = random_ids(1, 5, 1 << 20)[0];  // four rows a block
  const auto losses = token_losses(logits, targets);
  ASSERT_EQ(losses.sizes(), at::IntArrayRef({5}));
  EXPECT_LT(distance(losses, at::cross_entropy_loss(logits, targets, {}, at::Reduction::None)), 1e-5);
}

TEST(CacheSize, FormulaIsWhatTheTablesHold) {
  ModelConfig config = tiny_config();
  const auto check = [&](int64_t expected) {
    Gpt model = make_model(config);
    EXPECT_EQ(rope_table_bytes(config, 24), expected);
    EXPECT_EQ(measured_rope_table_bytes(model, 24), expected);
    model->logits(random_ids(1, 40, 48));
    EXPECT_EQ(measured_rope_table_bytes(model, 24), expected) << "of that length only";
    EXPECT_EQ(kv_cache_bytes(config, 24), 2 * 2 * 2 * 8 * 24 * 2) << "whatever rotates";
  };
  check(2 * 24 * 4 * 4);  // cos and sin, positions, pairs, bytes
  config.rope.rope_dims = 2;
  check(2 * 24 * 1 * 4);
  config.rope.table_dtype = RopeTableDtype::bfloat16;
  check(2 * 24 * 1 * 2);
  config.rope.table_dtype = RopeTableDtype::float32;
  config.rope.select = RopeSelect::high;
  check(2 * 24 * 4 * 4);  // the lanes that rest are in the table
  config.rope.select = RopeSelect::prefix;
  config.rope_layers = {6, 4};
  check(2 * 24 * (3 + 2) * 4);
  config.rope_layers = {0, 4};
  check(2 * 24 * 2 * 4);
  config.rope_layers.clear();
  config.rope.rope_dims = 0;
  check(0);
}

}  // namespace
}  // namespace pgolf::testing
