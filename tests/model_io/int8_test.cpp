#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/model_io/quantizer.h"
#include "pgolf/model_io/tensors.h"
#include "support/files.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

const Dict& part_of(const Dict& object, const char* key) {
  const Value* value = object.find(key);
  if (value == nullptr) throw std::out_of_range(std::string("no part ") + key);
  return value->as_dict(key);
}

at::Tensor tensor_in(const Dict& object, const char* part, const char* name) {
  const Value* value = part_of(object, part).find(name);
  if (value == nullptr) throw std::out_of_range(std::string("no tensor ") + name);
  return to_tensor(value->as_tensor(name));
}

/// By name, as files order tensors by how they were stored.
at::Tensor find_tensor(const StateDict& state, const std::string& name) {
  for (const auto& [key, tensor] : state) {
    if (key == name) return tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return torch::zeros({0});
}

Dict quantized(const StateDict& state, const std::vector<std::string>& patterns = {}) {
  return write_codes(CodeFormat::int8_clean_per_row_v1, quantize_int8(state, patterns).tensors);
}

TEST(Int8, RowErrorIsHalfAStep) {
  torch::manual_seed(3);
  // Rows of very different magnitude; the smallest are below the minimum scale.
  const auto weights = torch::randn({300, 256}) * torch::logspace(-4, 2, 300).unsqueeze(1);
  const Dict object = quantized({{"w", weights}});
  const auto back = find_tensor(dequantize(read_codes(object, "test")), "w");
  ASSERT_EQ(back.scalar_type(), at::kFloat);
  const auto largest = std::get<0>(weights.abs().max(1, true));
  const auto step = (largest / 127).clamp_min(1.0 / 127);
  // Half a step of rounding, the float16 rounding of the scale, and what the quantile clips off the largest value.
  const auto bound = 0.5 * step + largest / 2048 + 1e-3 * largest + 1e-6;
  EXPECT_TRUE(((back - weights).abs() <= bound).all().item<bool>());
  EXPECT_GT(distance(back, weights), 0);
  const auto codes = tensor_in(object, "quantized", "w"), scales = tensor_in(object, "scales", "w");
  EXPECT_EQ(codes.scalar_type(), at::kChar);
  EXPECT_EQ(codes.sizes(), weights.sizes());
  EXPECT_EQ(scales.scalar_type(), at::kHalf);
  EXPECT_EQ(scales.sizes(), at::IntArrayRef({300}));
  EXPECT_EQ(scales[0].item<float>(), at::scalar_tensor(1.0 / 127, at::kHalf).item<float>()) << "the minimum scale";
  EXPECT_GE(codes.min().item<int>(), -127);
  EXPECT_EQ(codes.abs().max().item<int>(), 127);
  EXPECT_TRUE(at::equal(back, codes.to(at::kFloat) * scales.to(at::kFloat).unsqueeze(1))) << "values are code times stored scale";
}

TEST(Int8, OneOutlierIsClippedToTheQuantile) {
  auto weights = torch::full({2, 100'000}, 1.0);
  weights[0][17] = 1000.0;
  const auto back = find_tensor(dequantize(read_codes(quantized({{"w", weights}}), "test")), "w");
  // The 0.9999984 quantile of 100,000 values lies 0.16 of the way from the largest to the second largest.
  const double clip = 1.0 + 999.0 * (1 - (100'000 - 1) * (1 - 0.9999984));
  EXPECT_NEAR(back[0][17].item<double>(), clip, 0.01 * clip);
  EXPECT_NEAR(back[1][17].item<double>(), 1.0, 0.01) << "the other row has its own scale";
}

TEST(Int8, SizeDecidesWhatIsQuantized) {
  const StateDict state{
      {"at_limit", torch::randn({256, 256})}, {"above", torch::randn({257, 256})}, {"long", torch::rand({65'537}) - 0.5}};
  const Dict object = quantized(state);
  EXPECT_EQ(part_of(object, "passthrough").size(), 1u);
  EXPECT_NE(part_of(object, "passthrough").find("at_limit"), nullptr);
  EXPECT_EQ(part_of(object, "quantized").size(), 2u);
  EXPECT_EQ(tensor_in(object, "scales", "above").dim(), 1);
  EXPECT_EQ(tensor_in(object, "scales", "long").dim(), 0) << "a vector has one scale";
  EXPECT_EQ(tensor_in(object, "scales", "long").scalar_type(), at::kFloat);
  EXPECT_NE(part_of(object, "qmeta").find("above"), nullptr);
  EXPECT_EQ(part_of(object, "qmeta").find("long"), nullptr);
  const auto back = dequantize(read_codes(object, "test"));
  const auto& original = state[2].second;
  EXPECT_LE(distance(find_tensor(back, "long"), original), 0.51 * original.abs().max().item<double>() / 127);
}

TEST(Int8, SmallTensorsAreFloat16UnlessAPatternKeepsThem) {
  const auto exact = torch::full({4}, 1.0 / 3.0);
  const StateDict state{{"blocks.0.attn.q_gain", exact},
                        {"blocks.0.bias", exact},
                        {"half_precision", exact.to(at::kBFloat16)},
                        {"count", torch::arange(5)},
                        {"wide", exact.to(at::kDouble)}};
  const Dict object = quantized(state, {"q_gain", "scale"});
  EXPECT_EQ(tensor_in(object, "passthrough", "blocks.0.attn.q_gain").scalar_type(), at::kFloat);
  EXPECT_EQ(tensor_in(object, "passthrough", "blocks.0.bias").scalar_type(), at::kHalf);
  EXPECT_EQ(tensor_in(object, "passthrough", "half_precision").scalar_type(), at::kHalf);
  const auto back = dequantize(read_codes(object, "test"));
  EXPECT_TRUE(at::equal(find_tensor(back, "blocks.0.attn.q_gain"), exact));
  EXPECT_TRUE(at::equal(find_tensor(back, "blocks.0.bias"), exact.to(at::kHalf).to(at::kFloat)));
  EXPECT_EQ(find_tensor(back, "blocks.0.bias").scalar_type(), at::kFloat);
  EXPECT_EQ(find_tensor(back, "half_precision").scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(find_tensor(back, "half_precision"), exact.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(find_tensor(back, "count"), torch::arange(5)));
  EXPECT_TRUE(at::equal(find_tensor(back, "wide"), exact.to(at::kDouble)));
}

TEST(Int8, LargeBfloat16ComesBackAsBfloat16) {
  const auto weights = torch::randn({300, 256}).to(at::kBFloat16);
  const auto back = find_tensor(dequantize(read_codes(quantized({{"w", weights}}), "test")), "w");
  EXPECT_EQ(back.scalar_type(), at::kBFloat16);
  EXPECT_LT(distance(back, weights), 0.05);
}

TEST(Int8, ZeroRowsStayZero) {
  auto weights = torch::randn({300, 256});
  weights[5].zero_();
  const auto back =
      find_tensor(dequantize(read_codes(quantized({{"w", weights}, {"zeros", torch::zeros({70'000})}}), "test")), "w");
  EXPECT_EQ(back[5].abs().max().item<float>(), 0);
  const auto zeros = dequantize(read_codes(quantized({{"zeros", torch::zeros({70'000})}}), "test"))[0].second;
  EXPECT_TRUE(at::equal(zeros, torch::zeros({70'000})));
}

TEST(Int8, StatisticsCountBytes) {
  const QuantStats stats =
      quantize_int8(
          {{"w", torch::randn({300, 256})}, {"q_gain", torch::ones({8})}, {"small", torch::ones({10})}, {"n", torch::arange(3)}},
          {"q_gain"})
          .stats;
  EXPECT_EQ(stats.baseline_tensor_bytes, 4 * (300 * 256 + 8 + 10) + 8 * 3);
  EXPECT_EQ(stats.payload_bytes, 300 * 256 + 2 * 300 + 4 * 8 + 2 * 10 + 8 * 3);
}

TEST(Int8, SurvivesFileAndCompression) {
  const StateDict state{{"w", torch::randn({300, 256})},
                        {"long", torch::randn({70'000})},
                        {"q_gain", torch::randn({8})},
                        {"small", torch::randn({3, 3})}};
  Dict object = quantized(state, {"q_gain"});
  set_artifact_config(&object, {{"ROPE_DIMS", "16"}, {"NUM_LAYERS", "2"}});
  const StateDict direct = dequantize(read_codes(object, "test"));
  const Bytes file = zlib_compress(save_torch(Dict(object)), 9);
  const Value read = load_torch(zlib_decompress(file, 1 << 24, "test"), "test");
  expect_same_tensors(dequantize(read_codes(read.as_dict("test"), "test")), direct);
  EXPECT_EQ(artifact_config(read.as_dict("test"), "test"),
            (std::map<std::string, std::string>{{"ROPE_DIMS", "16"}, {"NUM_LAYERS", "2"}}));
  EXPECT_TRUE(artifact_config(quantized(state), "test").empty());
}

TEST(Int8, InconsistentPartsAreRejected) {
  const Dict good = quantized({{"w", torch::randn({300, 256})}});
  const auto refused = [&](const std::string& part, const char* key, Value value) {
    Dict bad(good);
    bad.set(text(key), std::move(value));
    expect_error(ExitCode::bad_input, {"weights.ptz", part}, [&] { read_codes(bad, "weights.ptz"); });
  };
  refused("some_other_format", "__quant_format__", text("some_other_format"));
  refused("int", "__quant_format__", 3);
  refused("has no scale", "scales", Dict());
  refused("or no dtype", "dtypes", Dict());
  refused("scales", "scales", text("none"));
  Dict short_scales, odd_dtype;
  short_scales.set(text("w"), to_raw(torch::ones({299}, at::kHalf)));
  refused("number of scales differs", "scales", short_scales);
  odd_dtype.set(text("w"), text("int8"));
  refused("int8", "dtypes", odd_dtype);
  expect_error(ExitCode::bad_input, {"weights.ptz", "__quant_format__"}, [] { read_codes(Dict(), "weights.ptz"); });
}

}  // namespace
}  // namespace pgolf::testing
