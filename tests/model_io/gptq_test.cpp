#include "pgolf/model_io/gptq.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "pgolf/model_io/tensors.h"
#include "support/files.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

/// X^T X of inputs whose components are correlated.
at::Tensor correlated_hessian(int64_t columns, int64_t tokens = 600) {
  const auto inputs = at::randn({tokens, columns}).mm(at::randn({columns, columns})) * at::linspace(0.1, 2, columns);
  return inputs.t().mm(inputs) / 10;
}

at::Tensor values(const Codes& codes) {
  return codes.codes.to(at::kFloat) * codes.scale.to(at::kFloat).unsqueeze(1);
}

double weighted_error(const at::Tensor& weights, const at::Tensor& quantized, const at::Tensor& hessian) {
  const auto difference = (weights - quantized).to(at::kDouble);
  return difference.mm(hessian.to(at::kDouble)).mul(difference).sum().item<double>();
}

/// Definition in double, without blocks: the next column's rounding error over the factor's diagonal, times the factor's row, is
/// taken off all columns after it.
at::Tensor codes_by_definition(const at::Tensor& weights, const at::Tensor& hessian, const at::Tensor& scale, double largest) {
  auto damped = hessian.to(at::kDouble).clone();
  damped.diagonal().add_(0.01 * damped.diagonal().mean());
  const auto order = at::argsort(damped.diagonal(), -1, true);
  const auto factor = at::linalg_cholesky(at::linalg_inv(damped.index_select(0, order).index_select(1, order)), /*upper=*/true);
  auto work = weights.to(at::kDouble).index_select(1, order);
  const auto scales = scale.to(at::kDouble);
  std::vector<at::Tensor> codes;
  for (int64_t j = 0; j < work.size(1); ++j) {
    const auto code = (work.select(1, j) / scales).round().clamp(-largest, largest);
    const auto error = (work.select(1, j) - code * scales) / factor[j][j];
    work = work - error.unsqueeze(1) * factor[j].unsqueeze(0);
    codes.push_back(code);
  }
  return at::stack(codes, 1).index_select(1, at::argsort(order)).to(at::kChar);
}

TEST(Gptq, EqualsItsDefinition) {
  torch::manual_seed(1);
  for (const auto& [rows, columns] : {std::pair{20, 50}, {7, 128}, {9, 300}}) {
    const auto weights = at::randn({rows, columns}) * at::linspace(0.5, 2, rows).unsqueeze(1),
               hessian = correlated_hessian(columns);
    const PreparedHessian prepared = prepare_hessian(hessian, "w");
    const Codes codes = gptq_codes(weights, prepared, {.clip_sigmas = 3}, "w");
    const auto scale = (3 * weights.std(1) / 31).to(at::kHalf);
    EXPECT_TRUE(at::equal(codes.scale, scale));
    EXPECT_EQ(codes.codes.scalar_type(), at::kChar);
    EXPECT_EQ(codes.codes.abs().max().item<int>(), 31) << "some are clipped at three sigmas";
    const auto expected = codes_by_definition(weights, hessian, scale, 31);
    EXPECT_LT(codes.codes.ne(expected).to(at::kDouble).mean().item<double>(), 0.01) << rows << " x " << columns;
    const Codes narrow = gptq_codes(weights, prepared, {.clip_sigmas = 3, .block = 16}, "w");
    EXPECT_LT(codes.codes.ne(narrow.codes).to(at::kDouble).mean().item<double>(), 0.01);
    // The purpose of it all.
    const auto rounded = (weights / scale.to(at::kFloat).unsqueeze(1)).round().clamp(-31, 31) * scale.to(at::kFloat).unsqueeze(1);
    EXPECT_LT(weighted_error(weights, values(codes), hessian), 0.5 * weighted_error(weights, rounded, hessian));
  }
}

TEST(Gptq, IndependentInputsGivePlainRounding) {
  const auto weights = at::randn({10, 140});
  for (const int bits : {2, 4, 8}) {
    const Codes codes = gptq_codes(weights, prepare_hessian(at::eye(140), "w"), {.bits = bits, .clip_sigmas = 2.5}, "w");
    const double n = (1 << (bits - 1)) - 1;
    const auto expected = (weights / codes.scale.to(at::kFloat).unsqueeze(1)).round().clamp(-n, n).to(at::kChar);
    EXPECT_TRUE(at::equal(codes.codes, expected)) << bits;
  }
}

TEST(Gptq, RowsWithoutSpreadHaveCodesOfZero) {
  auto weights = at::randn({5, 40});
  weights[1].zero_();
  weights[2].fill_(0.25);
  weights[3].fill_(1e-9);
  for (const double lambda : {0.0, 0.5}) {
    const Codes codes = gptq_codes(weights, prepare_hessian(correlated_hessian(40), "w"), {.hessian_clip_lambda = lambda}, "w");
    for (const int64_t row : {1, 2, 3}) {
      EXPECT_EQ(codes.scale[row].item<float>(), 0) << row;
      EXPECT_TRUE(codes.codes[row].eq(0).all().item<bool>()) << row;
    }
    EXPECT_GT(codes.scale[0].item<float>(), 0);
    EXPECT_TRUE(at::isfinite(values(codes)).all().item<bool>());
  }
}

TEST(Gptq, InputsThatAreAlwaysZeroGetCodesOfZero) {
  auto inputs = at::randn({300, 30});
  inputs.select(1, 4).zero_();
  inputs.select(1, 21).zero_();
  const auto weights = at::randn({6, 30});
  const PreparedHessian prepared = prepare_hessian(inputs.t().mm(inputs), "w");
  EXPECT_TRUE(at::equal(prepared.dead.nonzero().flatten(), at::tensor({4, 21}, at::kLong)));
  const Codes codes = gptq_codes(weights, prepared, {}, "w");
  EXPECT_TRUE(codes.codes.select(1, 4).eq(0).all().item<bool>());
  EXPECT_TRUE(codes.codes.select(1, 21).eq(0).all().item<bool>());
  EXPECT_FALSE(codes.codes.select(1, 5).eq(0).all().item<bool>());
}

TEST(Gptq, LambdaGivesImportantRowsMoreRange) {
  auto weights = at::randn({2, 64});
  auto hessian = at::eye(64);
  hessian.diagonal().narrow(0, 0, 32).fill_(9);
  weights[0].narrow(0, 32, 32).mul_(0.1);
  weights[1].narrow(0, 0, 32).mul_(0.1);
  const PreparedHessian prepared = prepare_hessian(hessian, "w");
  const auto plain = gptq_codes(weights, prepared, {}, "w").scale.to(at::kFloat);
  const auto scale = gptq_codes(weights, prepared, {.hessian_clip_lambda = 0.5}, "w").scale.to(at::kFloat);
  EXPECT_GT((scale[0] / plain[0]).item<double>(), 1.2);
  EXPECT_LT((scale[1] / plain[1]).item<double>(), 0.8);
}

TEST(Gptq, TheSearchTakesTheQuantileOfLeastError) {
  torch::manual_seed(2);
  auto weights = at::randn({8, 1000}).clamp(-2, 2) * 3;  // nothing to clip: the first quantile is as good as any
  const PreparedHessian prepared = prepare_hessian(at::eye(1000), "w");
  const GptqSettings search{.clip = GptqClip::search};
  const auto scale_at = [&](double quantile) {
    return (at::quantile(weights.abs(), quantile, 1) / 31).clamp_min(1.0 / 31).to(at::kHalf);
  };
  const auto expect_best = [&](double quantile) {
    EXPECT_TRUE(at::equal(gptq_codes(weights, prepared, search, "w").scale, scale_at(quantile))) << quantile;
  };
  expect_best(0.999);
  weights.select(1, 0).fill_(9);  // the others are at most 6; clipping to 6 costs more than coarser steps up to 8.7
  expect_best(0.9999);
  const auto small = weights * 1e-3;
  EXPECT_TRUE(at::equal(gptq_codes(small, prepared, search, "w").scale, at::full({8}, 1.0 / 31).to(at::kHalf))) << "the floor";
}

TEST(Gptq, ValuesThatAreNotFiniteAreErrors) {
  auto hessian = correlated_hessian(20);
  const PreparedHessian prepared = prepare_hessian(hessian, "w");
  hessian[3][3] = std::numeric_limits<float>::quiet_NaN();
  expect_error(ExitCode::non_finite, {"blocks.0.w", "positive definite"}, [&] { prepare_hessian(hessian, "blocks.0.w"); });
  auto weights = at::randn({3, 20});
  weights[1][1] = std::numeric_limits<float>::infinity();
  expect_error(ExitCode::non_finite, {"blocks.0.w", "scale"}, [&] { gptq_codes(weights, prepared, {}, "blocks.0.w"); });
}

class GptqModel : public ::testing::Test {
 protected:
  void SetUp() override {
    torch::manual_seed(3);
    state_ = {{"skip_weights", at::randn({2, 300})},   {"tok_emb.weight", at::randn({300, 300})},
              {"a.weight", at::randn({400, 300})},     {"b.weight", at::randn({250, 300})},
              {"small.weight", at::randn({256, 256})}, {"table.weight", at::randn({300, 300})},
              {"wide.weight", at::randn({150, 700})},  {"count", at::arange(3)}};
    prepared_ = prepare_hessians({{{"a.weight", "b.weight"}, correlated_hessian(300)},
                                  {{"tok_emb.weight"}, correlated_hessian(300)},
                                  {{"wide.weight"}, correlated_hessian(700)}});
  }
  const CodedTensor& coded(const QuantizedModel& model, const std::string& name) {
    for (const auto& tensor : model.tensors) {
      if (tensor.name == name) return tensor;
    }
    throw std::out_of_range(name);
  }

  StateDict state_;
  PreparedHessians prepared_;
};

TEST_F(GptqModel, EachTensorIsStoredByItsKind) {
  EXPECT_EQ(prepared_.at("a.weight"), prepared_.at("b.weight")) << "shared";
  const QuantizedModel model = quantize_gptq(state_, prepared_, {.matrix_bits = 5, .embed_bits = 7, .embed_clip_sigmas = 15});
  ASSERT_EQ(model.tensors.size(), state_.size());
  for (size_t i = 0; i < state_.size(); ++i) EXPECT_EQ(model.tensors[i].name, state_[i].first);
  for (const char* name : {"skip_weights", "small.weight"}) {
    EXPECT_EQ(coded(model, name).data.dtype, DType::float16);
    EXPECT_FALSE(coded(model, name).scale);
    EXPECT_EQ(coded(model, name).dtype, DType::float32);
  }
  EXPECT_EQ(coded(model, "count").data.dtype, DType::int64);
  for (const auto& [name, bits, sigmas] : {std::tuple{"a.weight", 5, 12.85}, {"tok_emb.weight", 7, 15.0}}) {
    const CodedTensor& tensor = coded(model, name);
    EXPECT_EQ(tensor.quantizer, Quantizer::gptq);
    EXPECT_EQ(tensor.bits, bits);
    const auto weights =
        std::find_if(state_.begin(), state_.end(), [&, n = name](const auto& e) { return e.first == n; })->second;
    const Codes codes = gptq_codes(weights, *prepared_.at(name), {.bits = bits, .clip_sigmas = sigmas}, name);
    EXPECT_TRUE(at::equal(to_tensor(*tensor.scale), codes.scale));
  }
  const CodedTensor& table = coded(model, "table.weight");
  EXPECT_EQ(table.quantizer, Quantizer::int8) << "without a Hessian";
  EXPECT_EQ(table.bits, 8);
  EXPECT_TRUE(at::equal(to_tensor(table.data), int8_codes(state_[5].second).codes));
  EXPECT_EQ(model.stats.payload_bytes,
            2 * 600 + (90'000 + 600) + (120'000 + 800) + (75'000 + 500) + 2 * 65'536 + (90'000 + 600) + (105'000 + 300) + 24);
  const QuantizedModel searched = quantize_gptq(state_, prepared_, {.clip = GptqClip::search});
  EXPECT_EQ(coded(searched, "tok_emb.weight").quantizer, Quantizer::int8);
  EXPECT_EQ(coded(searched, "a.weight").quantizer, Quantizer::gptq);
  const StateDict back = dequantize(model.tensors);
  EXPECT_EQ(back[2].second.scalar_type(), at::kFloat);
  EXPECT_EQ(back[2].second.sizes(), state_[2].second.sizes());
}

TEST_F(GptqModel, BitsDoNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  const Hessians hessians{{{"a.weight"}, correlated_hessian(300)}, {{"wide.weight"}, correlated_hessian(700)}};
  std::vector<QuantizedModel> models;
  for (const int count : {1, 2, 3, 5}) {
    at::set_num_threads(count);
    const PreparedHessians prepared = prepare_hessians(hessians);
    models.push_back(quantize_gptq(state_, prepared, {}));
  }
  at::set_num_threads(threads);
  for (const auto& model : models) {
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      EXPECT_EQ(*model.tensors[i].data.bytes, *models[0].tensors[i].data.bytes) << model.tensors[i].name;
      if (model.tensors[i].scale) {
        EXPECT_EQ(*model.tensors[i].scale->bytes, *models[0].tensors[i].scale->bytes);
      }
    }
  }
}

}  // namespace
}  // namespace pgolf::testing
