// Test-time training against a loop written with LibTorch's own SGD and clipping.
#include "pgolf/train/test_time_training.h"

#include <torch/torch.h>

#include <cmath>

#include "support/models.h"
#include "support/ranks.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

std::vector<uint16_t> random_tokens(size_t count) {
  const auto ids = random_ids(1, static_cast<int64_t>(count), 48);
  std::vector<uint16_t> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<uint16_t>(ids[0][static_cast<int64_t>(i)].item<int64_t>()));
  return tokens;
}

struct Trained {
  std::vector<float> losses;
  std::vector<double> steps, norms;
};

Trained train(Gpt& model, const std::vector<uint16_t>& tokens, const TestTimeWindows& windows, const TestTimeTraining& ttt,
              Group& group) {
  Trained out;
  train_at_test_time(
      model, tokens, windows, ttt, group,
      [&](const ScoredWindow&, std::span<const float> losses) {
        out.losses.insert(out.losses.end(), losses.begin(), losses.end());
      },
      [&](const TrainedChunk& chunk) {
        out.steps.insert(out.steps.end(), chunk.losses.begin(), chunk.losses.end());
        out.norms.insert(out.norms.end(), chunk.grad_norms.begin(), chunk.grad_norms.end());
        return true;
      });
  return out;
}

/// By the definition, one target's window at a time.
Trained train_by_definition(Gpt& model, const std::vector<uint16_t>& tokens, int64_t seq_len, int64_t stride, int64_t per_batch,
                            const TestTimeTraining& ttt) {
  const auto targets = static_cast<int64_t>(tokens.size()) - 1, chunks = (targets + ttt.chunk_tokens - 1) / ttt.chunk_tokens;
  const auto part = [&](int64_t begin, int64_t end) {
    auto ids = torch::empty({end - begin}, torch::kLong);
    for (int64_t i = begin; i < end; ++i) ids[i - begin] = tokens[static_cast<size_t>(i)];
    return ids;
  };
  Trained out;
  torch::optim::SGD sgd(model->parameters(), torch::optim::SGDOptions(ttt.lr).momentum(ttt.momentum));
  int64_t scored = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = chunk * ttt.chunk_tokens, end = std::min(begin + ttt.chunk_tokens, targets);
    bool windows = false;
    for (int64_t start = scored == 0 ? 0 : scored - (seq_len - stride); scored < end && scored < targets; start += stride) {
      const int64_t last = std::min(start + seq_len, targets);
      const auto ids = part(start, last + 1).unsqueeze(0);
      const auto losses = model->token_losses(ids.slice(1, 0, last - start), ids.slice(1, 1)).squeeze(0);
      for (; scored < last; ++scored) out.losses.push_back(losses[scored - start].item<float>());
      windows = true;
    }
    if (chunk == chunks - 1 || !windows) continue;
    static_cast<torch::optim::SGDOptions&>(sgd.param_groups()[0].options())
        .lr(ttt.lr * (1 + std::cos(M_PI * static_cast<double>(chunk) / static_cast<double>(chunks - 1))) / 2);
    const int64_t sequences = (end - begin) / seq_len;
    for (int epoch = 0; epoch < ttt.epochs; ++epoch) {
      for (int64_t first = 0; first < sequences; first += per_batch) {
        const int64_t count = std::min(per_batch, sequences - first), from = begin + first * seq_len;
        const auto ids = part(from, from + count * seq_len + 1);
        sgd.zero_grad();
        const auto loss = model(ids.slice(0, 0, count * seq_len).view({count, seq_len}), ids.slice(0, 1).view({count, seq_len}));
        loss.backward();
        out.norms.push_back(torch::nn::utils::clip_grad_norm_(model->parameters(), 1.0));
        sgd.step();
        out.steps.push_back(loss.item<double>());
      }
    }
  }
  return out;
}

void expect_close(const std::vector<double>& got, const std::vector<double>& expected, const char* what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 2e-5) << what << " " << i;
}

TEST(TestTimeTraining, IsTheLoopOfItsDefinition) {
  const auto tokens = random_tokens(331);
  struct Case {
    int64_t stride, chunk_tokens, per_batch;
    double momentum;
    int epochs;
  };
  // Chunks of whole and of broken sequences, with several batches, shorter than a stride, and a single one.
  for (const auto& c : {Case{8, 64, 32, 0.9, 2}, Case{16, 50, 2, 0.5, 1}, Case{5, 70, 3, 0.9, 3}, Case{12, 7, 32, 0.9, 1},
                        Case{8, 1000, 32, 0.9, 2}, Case{8, 100, 4, 0, 2}, Case{8, 64, 32, 0.9, 0}}) {
    SCOPED_TRACE(format("stride %d, chunks of %d", static_cast<int>(c.stride), static_cast<int>(c.chunk_tokens)));
    for (const auto path : {OpsPath::reference, OpsPath::fast}) {
      Gpt model = make_random_model(tiny_config(), 5, path), expected_model = make_random_model(tiny_config());
      const TestTimeTraining ttt{true, 0.05, c.epochs, c.momentum, c.chunk_tokens};
      Group group;
      const Trained got = train(model, tokens, {16, c.stride, c.per_batch}, ttt, group);
      const Trained expected = train_by_definition(expected_model, tokens, 16, c.stride, c.per_batch, ttt);
      ASSERT_EQ(got.losses.size(), 330u);
      for (size_t i = 0; i < got.losses.size(); ++i) EXPECT_NEAR(got.losses[i], expected.losses[i], 2e-5) << "target " << i;
      expect_close(got.steps, expected.steps, "loss");
      expect_close(got.norms, expected.norms, "norm");
      EXPECT_EQ(got.steps.empty(), c.epochs == 0 || c.chunk_tokens == 7 || c.chunk_tokens == 1000);
      const StateDict weights = state_dict(model), expected_weights = state_dict(expected_model);
      for (size_t i = 0; i < weights.size(); ++i)
        EXPECT_LE(distance(weights[i].second, expected_weights[i].second), 1e-5) << weights[i].first;
    }
  }
}

TEST(TestTimeTraining, ADivergingOneIsAnError) {
  Gpt model = make_random_model(tiny_config());
  Group group;
  expect_error(ExitCode::non_finite, {"not finite"}, [&] {
    train(model, random_tokens(500), {16, 8}, {true, 1e30, 3, 0.9, 64}, group);
  });
}

/// Two ranks end where one does.
void share_of_test_time_training(Group& group) {
  const auto tokens = random_tokens(400);
  const TestTimeTraining ttt{true, 0.05, 2, 0.9, 90};
  Gpt model = make_random_model(tiny_config()), alone = make_random_model(tiny_config());
  Group single;
  const Trained expected = train(alone, tokens, {16, 8, 3}, ttt, single), got = train(model, tokens, {16, 8, 3}, ttt, group);
  double sum = 0, expected_sum = 0;
  for (const float loss : got.losses) sum += loss;
  for (const float loss : expected.losses) expected_sum += loss;
  const auto all = group.sum({sum, static_cast<double>(got.losses.size())});
  require(all[1] == 399, "not every target was scored once");
  require(std::abs(all[0] - expected_sum) < 2e-3, format("the sum of losses is %.6f, not %.6f", all[0], expected_sum));
  const StateDict weights = state_dict(model), expected_weights = state_dict(alone);
  for (size_t i = 0; i < weights.size(); ++i)
    require(distance(weights[i].second, expected_weights[i].second) < 1e-5, weights[i].first);
  group.require_equal({weights.begin(), weights.end()});
}

const bool kTestTimeAdded = add_scenario("share_of_test_time_training", share_of_test_time_training);

TEST(TestTimeTraining, RanksShareTheWork) {
  for (const auto& result : Ranks(2, "share_of_test_time_training").wait()) EXPECT_EQ(result.code, 0) << result.err;
}

}  // namespace
}  // namespace pgolf::testing
