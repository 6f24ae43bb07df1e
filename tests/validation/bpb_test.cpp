#include "pgolf/validation/bpb.h"

#include "support/dataset.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

constexpr int kSeqLen = 16;

ModelConfig config_for_dataset() {
  ModelConfig config = tiny_config();
  config.vocab_size = Dataset::vocab_size;
  config.rope_dims = 4;
  return config;
}

struct Scoring {
  Tokenizer tokenizer{Dataset::get().tokenizer_path()};
  ByteCounts byte_counts{tokenizer, Dataset::vocab_size};
  ValidationSet validation{Dataset::get().val_files(), kSeqLen, /*eval_tokens=*/11 * kSeqLen, Dataset::vocab_size};

  EvalResult evaluate_with(Gpt& model, int64_t batch_sequences) {
    EvalOptions options;
    options.seq_len = kSeqLen;
    options.batch_sequences = batch_sequences;
    return evaluate(model, validation, byte_counts, options);
  }
};

/// Bytes of a target's text, by the tokenizer's pieces.
int64_t bytes_of(const Tokenizer& tokenizer, int previous, int target) {
  const auto boundary = [&](int id) { return tokenizer.is_control(id) || tokenizer.is_unknown(id) || tokenizer.is_unused(id); };
  if (boundary(target)) return 0;
  if (tokenizer.is_byte(target)) return 1;
  const std::string &piece = tokenizer.id_to_piece(target), blank = "\u2581";
  if (piece.rfind(blank, 0) != 0) return static_cast<int64_t>(piece.size());
  return static_cast<int64_t>(piece.size() - blank.size()) + (boundary(previous) ? 0 : 1);
}

TEST(Evaluate, IsTheNaiveDoubleLoop) {
  torch::NoGradGuard no_grad;
  Scoring scoring;
  Gpt model = make_random_model(config_for_dataset());
  const auto result = scoring.evaluate_with(model, 4);
  double loss = 0;
  int64_t tokens = 0, bytes = 0;
  const auto all = scoring.validation.tokens();
  for (size_t first = 0; first + kSeqLen < all.size(); first += kSeqLen) {
    const auto ids = torch::tensor(
        std::vector<int64_t>(all.begin() + static_cast<ptrdiff_t>(first), all.begin() + static_cast<ptrdiff_t>(first) + kSeqLen));
    const auto log_probabilities = at::log_softmax(model->logits(ids.view({1, kSeqLen})).to(at::kDouble), -1)[0];
    for (int64_t t = 0; t < kSeqLen; ++t) {
      const int target = all[first + static_cast<size_t>(t) + 1];
      loss -= log_probabilities[t][target].item<double>();
      bytes += bytes_of(scoring.tokenizer, all[first + static_cast<size_t>(t)], target);
      ++tokens;
    }
  }
  EXPECT_EQ(tokens, 11 * kSeqLen);
  EXPECT_EQ(result.tokens, tokens);
  EXPECT_EQ(result.bytes, bytes);
  EXPECT_NEAR(result.val_loss, loss / static_cast<double>(tokens), 1e-6);
  EXPECT_NEAR(result.val_bpb, loss / std::log(2.0) / static_cast<double>(bytes), 1e-6);
}

TEST(Evaluate, DoesNotDependOnTheBatch) {
  Scoring scoring;
  Gpt model = make_random_model(config_for_dataset());
  const auto one = scoring.evaluate_with(model, 1);
  for (const int64_t batch : {3, 11, 100}) {  // 11 windows: with a remainder, exactly, and more than there are
    const auto result = scoring.evaluate_with(model, batch);
    EXPECT_EQ(result.tokens, one.tokens);
    EXPECT_EQ(result.bytes, one.bytes);
    EXPECT_NEAR(result.val_loss, one.val_loss, 1e-6) << batch;
    EXPECT_NEAR(result.val_bpb, one.val_bpb, 1e-6) << batch;
  }
}

TEST(Evaluate, ReportsProgressAndLeavesTheModelAsItWas) {
  Scoring scoring;
  Gpt model = make_random_model(config_for_dataset());
  const StateDict before = clone_state(state_dict(model));
  std::vector<std::pair<int64_t, int64_t>> calls;
  EvalOptions options;
  options.seq_len = kSeqLen;
  options.batch_sequences = 4;
  options.progress = [&](int64_t done, int64_t total) { calls.emplace_back(done, total); };
  model->train();
  evaluate(model, scoring.validation, scoring.byte_counts, options);
  EXPECT_TRUE(model->is_training());
  model->eval();
  evaluate(model, scoring.validation, scoring.byte_counts, options);
  EXPECT_FALSE(model->is_training());
  EXPECT_EQ(calls, (std::vector<std::pair<int64_t, int64_t>>{{4, 11}, {8, 11}, {11, 11}, {4, 11}, {8, 11}, {11, 11}}));
  expect_same_tensors(state_dict(model), before);
  for (const auto& parameter : model->parameters()) EXPECT_FALSE(parameter.grad().defined());
}

}  // namespace
}  // namespace pgolf::testing
