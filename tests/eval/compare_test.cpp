#include "pgolf/eval/compare.h"

#include <cmath>

#include "pgolf/eval/score.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/model_writer.h"
#include "support/dataset.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

ModelFile with_state(const StateDict& state) {
  ModelFile file;
  file.state = state;
  return file;
}

class Compare : public ::testing::Test {
 protected:
  static ModelConfig config() {
    ModelConfig config = tiny_config();
    config.vocab_size = Dataset::vocab_size;
    return config;
  }
  Comparison compare(Gpt& a, Gpt& b, int64_t batch = 3) {
    EvalOptions options;
    options.seq_len = 16;
    options.batch_sequences = batch;
    return compare_models(a, b, validation_, byte_counts_, options);
  }

  Tokenizer tokenizer_{Dataset::get().tokenizer_path()};
  ValidationSet validation_{Dataset::get().val_files(), 16, 112, Dataset::vocab_size};
  ByteCounts byte_counts_{tokenizer_, Dataset::vocab_size};
  Gpt a_ = make_random_model(config(), 1), b_ = make_random_model(config(), 2);
};

TEST_F(Compare, NumbersAreThoseOfTheDefinitions) {
  torch::NoGradGuard no_grad;
  const Comparison both = compare(a_, b_);
  ASSERT_EQ(both.windows, 7);
  // All windows at once, in float64, from the formulas.
  const auto tokens = validation_.tokens();
  auto ids = torch::empty({113}, torch::kLong);
  std::copy(tokens.begin(), tokens.end(), ids.data_ptr<int64_t>());
  const auto inputs = ids.slice(0, 0, 112).view({7, 16}), targets = ids.slice(0, 1, 113);
  const auto log_p = [&](Gpt& model) { return model->logits(inputs).flatten(0, 1).to(at::kDouble).log_softmax(-1); };
  const auto log_a = log_p(a_), log_b = log_p(b_);
  const auto loss = [&](const at::Tensor& log) { return -log.gather(1, targets.unsqueeze(1)).squeeze(1); };
  const auto kl = (log_a.exp() * (log_a - log_b)).sum(-1);
  EXPECT_NEAR(both.a.val_loss, loss(log_a).mean().item<double>(), 1e-5);
  EXPECT_NEAR(both.b.val_loss, loss(log_b).mean().item<double>(), 1e-5);
  EXPECT_NEAR(both.kl, kl.mean().item<double>(), 1e-5);
  EXPECT_GT(both.kl, 0.01);
  EXPECT_DOUBLE_EQ(both.top1_agreement, (log_a.argmax(-1) == log_b.argmax(-1)).to(at::kDouble).mean().item<double>());
  const auto differences = (loss(log_b) - loss(log_a)).view({7, 16}).mean(1);
  EXPECT_NEAR(both.stderr_difference, differences.std().item<double>() / std::sqrt(7.0), 1e-6);
  EXPECT_NEAR(both.stderr_kl, kl.view({7, 16}).mean(1).std().item<double>() / std::sqrt(7.0), 1e-6);
}

TEST_F(Compare, LossesAreThoseOfScoring) {
  ScoreOptions options;
  options.seq_len = options.stride = 16;
  const EvalResult alone =
      summarize(score_stream(a_, validation_.tokens(), options), validation_.tokens(), byte_counts_, /*seq_len=*/16).total;
  const Comparison both = compare(a_, b_);
  EXPECT_NEAR(both.a.val_loss, alone.val_loss, 1e-6);
  EXPECT_NEAR(both.a.val_bpb, alone.val_bpb, 1e-6);
  EXPECT_EQ(both.a.tokens, alone.tokens);
  EXPECT_EQ(both.b.bytes, alone.bytes);
}

TEST_F(Compare, AModelEqualsItself) {
  const Comparison same = compare(a_, a_);
  EXPECT_EQ(same.a.val_loss, same.b.val_loss);
  EXPECT_EQ(same.stderr_difference, 0);
  EXPECT_EQ(same.kl, 0);
  EXPECT_EQ(same.top1_agreement, 1);
}

TEST_F(Compare, BatchesAndOrderDoNotMatter) {
  const Comparison one = compare(a_, b_, 1), all = compare(a_, b_, 7), turned = compare(b_, a_);
  EXPECT_NEAR(one.kl, all.kl, 1e-6);
  EXPECT_NEAR(one.stderr_difference, all.stderr_difference, 1e-6);
  EXPECT_NEAR(turned.a.val_loss, one.b.val_loss, 1e-6);
  EXPECT_NE(turned.kl, one.kl) << "divergence is not symmetric";
}

TEST_F(Compare, TensorErrorsBytesAndEntropy) {
  ModelConfig config = Compare::config();
  config.vocab_size = 2100;  // the embedding, 67,200 values, is then quantized
  Gpt model = make_random_model(config);
  const TempFolder folder;
  const auto state = state_dict(model);
  write_model(folder / "m.pt", state, config, {});
  write_model(folder / "m.ptz", state, config, {});
  const ModelFile full = read_model_file(folder / "m.pt"), quantized = read_model_file(folder / "m.ptz");
  const auto contents = [](const ModelFile& file) { return list_contents(open_model_container(file.path), "f"); };
  std::string why;
  const auto rows = compare_tensors(full, quantized, contents(full), contents(quantized), &why);
  EXPECT_EQ(why, "");
  ASSERT_EQ(rows.size(), state.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto values = full.state[i].second.to(at::kDouble), change = quantized.state[i].second.to(at::kDouble) - values;
    EXPECT_EQ(rows[i].name, full.state[i].first);
    EXPECT_NEAR(rows[i].relative_rms, std::sqrt(change.square().sum().item<double>() / values.square().sum().item<double>()),
                1e-12);
    EXPECT_EQ(rows[i].max_abs, change.abs().max().item<double>());
    EXPECT_EQ(rows[i].bytes_a, values.numel() * 4);
    EXPECT_LT(rows[i].bits_a, 0) << "a state dict has no codes";
    if (rows[i].name == "tok_emb.weight") {
      EXPECT_EQ(rows[i].bytes_b, values.numel() + 2 * 2100);
      EXPECT_GT(rows[i].relative_rms, 0);
      EXPECT_GT(rows[i].bits_b, 1);
      EXPECT_LE(rows[i].bits_b, 8);
    } else {
      EXPECT_LT(rows[i].bits_b, 0);
    }
  }
}

TEST_F(Compare, TensorsUnderOtherNamesInTheirFilesHaveTheirBytes) {
  Gpt model = make_random_model(config());
  const TempFolder folder;
  StateDict compiled;
  for (const auto& [name, tensor] : state_dict(model)) compiled.emplace_back("_orig_mod." + name, tensor);
  write_model(folder / "m.pt", state_dict(model), config(), {});
  write_model(folder / "compiled.safetensors", compiled, config(), {});
  const ModelFile plain = read_model_file(folder / "m.pt"), other = read_model_file(folder / "compiled.safetensors");
  const auto contents = [](const ModelFile& file) { return list_contents(open_model_container(file.path), "f"); };
  std::string why;
  const auto rows = compare_tensors(plain, other, contents(plain), contents(other), &why);
  EXPECT_EQ(rows.size(), compiled.size()) << why;
  for (const auto& row : rows) {
    EXPECT_GT(row.bytes_a, 0) << row.name;
    EXPECT_EQ(row.bytes_b, row.bytes_a) << row.name;
  }
}

TEST_F(Compare, OtherShapesHaveNoTensorTable) {
  const StateDict one{{"w", torch::ones({2})}}, other{{"v", torch::ones({2})}}, reshaped{{"w", torch::ones({1, 2})}},
      more{{"w", torch::ones({2})}, {"v", torch::ones({2})}};
  std::string why;
  const auto none = [&](const StateDict& a, const StateDict& b) {
    return compare_tensors(with_state(a), with_state(b), {}, {}, &why).empty();
  };
  EXPECT_TRUE(none(one, other));
  EXPECT_EQ(why, "only A has w");
  EXPECT_TRUE(none(one, reshaped));
  EXPECT_EQ(why, "w is [2] in A and [1, 2] in B");
  EXPECT_TRUE(none(one, more));
  EXPECT_EQ(why, "A has 1 tensors, B 2");
  EXPECT_FALSE(none(one, one));
  EXPECT_EQ(why, "");
}

TEST_F(Compare, ZeroTensors) {
  std::string why;
  const ModelFile zero = with_state({{"w", torch::zeros({2})}}), one = with_state({{"w", torch::ones({2})}});
  EXPECT_EQ(compare_tensors(zero, zero, {}, {}, &why)[0].relative_rms, 0);
  EXPECT_TRUE(std::isinf(compare_tensors(zero, one, {}, {}, &why)[0].relative_rms));
  EXPECT_EQ(compare_tensors(one, zero, {}, {}, &why)[0].relative_rms, 1);
}

}  // namespace
}  // namespace pgolf::testing
