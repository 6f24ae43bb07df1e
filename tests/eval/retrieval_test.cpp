#include "pgolf/eval/retrieval.h"

#include <numeric>

#include "support/dataset.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

using Ids = std::vector<int64_t>;

Ids ids_between(int64_t from, int64_t to) {
  Ids ids(static_cast<size_t>(to - from));
  std::iota(ids.begin(), ids.end(), from);
  return ids;
}

/// An item's inputs followed by its last target.
Ids whole_sequence(const RetrievalItems& items, int64_t item) {
  const auto sequence = at::cat({items.inputs[item], items.targets[item].slice(0, -1)}).contiguous();
  return {sequence.data_ptr<int64_t>(), sequence.data_ptr<int64_t>() + sequence.numel()};
}

Ids scored_targets(const RetrievalItems& items, int64_t item) {
  const auto targets = items.targets[item].contiguous();
  return {targets.data_ptr<int64_t>(), targets.data_ptr<int64_t>() + targets.numel()};
}

TEST(Retrieval, InductionRepeatsRandomTokens) {
  const Ids tokens = ids_between(20, 40);
  const auto items = induction_items(tokens, 2, 16, 5, 1);
  ASSERT_EQ(items.inputs.sizes(), at::IntArrayRef({5, 32}));
  ASSERT_EQ(items.targets.sizes(), at::IntArrayRef({5, 15}));
  for (int64_t item = 0; item < 5; ++item) {
    const Ids sequence = whole_sequence(items, item);
    ASSERT_EQ(sequence.size(), 33u);
    EXPECT_EQ(sequence[0], 2) << "BOS";
    const Ids first(sequence.begin() + 1, sequence.begin() + 17), second(sequence.begin() + 17, sequence.end());
    EXPECT_EQ(first, second);
    EXPECT_EQ(scored_targets(items, item), Ids(second.begin() + 1, second.end()));
    for (const int64_t id : first) EXPECT_TRUE(id >= 20 && id < 40) << id;
  }
  EXPECT_NE(whole_sequence(items, 0), whole_sequence(items, 1));
}

TEST(Retrieval, PasskeyIsInText) {
  std::vector<uint16_t> text(200);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<uint16_t>(1000 + i);
  const Ids tokens = ids_between(20, 40);
  for (const int64_t distance : {8, 16, 24}) {
    const auto items = passkey_items(text, tokens, 32, distance, 4, 1);
    ASSERT_EQ(items.inputs.sizes(), at::IntArrayRef({4, 32}));
    ASSERT_EQ(items.targets.sizes(), at::IntArrayRef({4, 4}));
    for (int64_t item = 0; item < 4; ++item) {
      const Ids sequence = whole_sequence(items, item);
      const auto copy = 25 - static_cast<size_t>(distance);
      EXPECT_EQ(scored_targets(items, item), Ids(sequence.begin() + 29, sequence.end()));
      for (size_t i = 25; i < 33; ++i) EXPECT_EQ(sequence[i], sequence[i - static_cast<size_t>(distance)]);
      for (size_t i = 0; i < 33; ++i) {
        const bool at_end = i >= 25, in_copy = i >= copy && i < copy + 8;
        if (at_end || in_copy) {
          EXPECT_TRUE(sequence[i] >= 20 && sequence[i] < 40) << i;
        } else {
          EXPECT_EQ(sequence[i], 1000 + item * 167 / 4 + static_cast<int64_t>(i)) << "text from " << item;
        }
      }
    }
  }
}

TEST(Retrieval, DistancesFitTheWindow) {
  EXPECT_EQ(induction_distances(64), (Ids{8, 16, 32}));
  EXPECT_EQ(induction_distances(63), (Ids{8, 16}));
  EXPECT_EQ(induction_distances(15), Ids());
  EXPECT_EQ(passkey_distances(64), (Ids{8, 16, 32}));
  EXPECT_EQ(passkey_distances(16), (Ids{8}));
  EXPECT_EQ(passkey_distances(15), Ids());
}

TEST(Retrieval, TheSeedDecidesTheItemsEverywhere) {
  const Ids tokens = ids_between(0, 1000);
  const auto inputs = [&](uint64_t seed) { return induction_items(tokens, 1, 8, 2, seed).inputs; };
  EXPECT_TRUE(at::equal(inputs(1), inputs(1)));
  EXPECT_FALSE(at::equal(inputs(1), inputs(2)));
  const auto one = inputs(1).contiguous();
  EXPECT_EQ(Ids(one.data_ptr<int64_t>(), one.data_ptr<int64_t>() + 9), (Ids{1, 784, 652, 457, 559, 383, 468, 924, 685}));
}

TEST(Retrieval, OrdinaryTokensAreWords) {
  const Tokenizer tokenizer(Dataset::get().tokenizer_path());
  const auto ids = ordinary_tokens(tokenizer);
  EXPECT_GT(ids.size(), 10u);
  EXPECT_LT(ids.size(), static_cast<size_t>(tokenizer.vocab_size()));
  for (const int64_t id : ids) {
    EXPECT_FALSE(tokenizer.is_byte(static_cast<int>(id)));
    EXPECT_FALSE(tokenizer.is_control(static_cast<int>(id)));
  }
}

TEST(Retrieval, ScoreCountsTheLargestLogit) {
  const auto targets = torch::tensor(Ids{3, 1, 4, 1, 5, 2}).view({2, 3});
  const auto right = at::one_hot(targets, 6).to(at::kFloat) * 30;
  const auto all = score_retrieval(right, targets);
  EXPECT_EQ(all.items, 2);
  EXPECT_EQ(all.accuracy, 1);
  EXPECT_EQ(all.standard_error, 0);
  EXPECT_NEAR(all.loss, 0, 1e-6);
  const auto none = score_retrieval(-right, targets);
  EXPECT_EQ(none.accuracy, 0);
  EXPECT_NEAR(none.loss, 30 + std::log(5.0), 1e-4);
  auto mixed = right.clone();
  mixed[0] = -mixed[0];
  const auto half = score_retrieval(mixed.to(at::kBFloat16), targets);
  EXPECT_EQ(half.accuracy, 0.5);
  EXPECT_NEAR(half.standard_error, 0.5, 1e-12) << "shares 0 and 1: deviation sqrt(1/2), over sqrt(2)";
  EXPECT_NEAR(half.loss, (30 + std::log(5.0)) / 2, 1e-4);
  EXPECT_TRUE(std::isnan(score_retrieval(right.slice(0, 0, 1), targets.slice(0, 0, 1)).standard_error));
}

TEST(Retrieval, TheModelIsScoredAtTheEnd) {
  torch::NoGradGuard no_grad;
  Gpt model = make_random_model(tiny_config());
  model->train();
  const auto items = induction_items(ids_between(2, 48), 1, 8, 5, 3);
  const auto expected = score_retrieval(model->logits(items.inputs).slice(1, 9), items.targets);
  for (const int64_t batch : {1, 3, 5, 100}) {
    const auto score = run_retrieval(model, items, batch, at::kCPU);
    EXPECT_EQ(score.items, 5);
    EXPECT_EQ(score.accuracy, expected.accuracy);
    EXPECT_NEAR(score.loss, expected.loss, 1e-5);
  }
  EXPECT_TRUE(model->is_training());
}

}  // namespace
}  // namespace pgolf::testing
