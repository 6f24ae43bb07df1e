#include "pgolf/config/rope_spec.h"

#include "config_testing.h"
#include "pgolf/config/run_config.h"

namespace pgolf {
namespace {

using testing::error_of;

int parsed(std::string_view text, int head_dim = 64) {
  std::string warning = "left over";
  const int dims = parse_rope_dims(text, head_dim, &warning);
  EXPECT_EQ(warning, "") << text;
  return dims;
}

std::string refused(std::string_view text, int head_dim = 64) {
  std::string warning;
  const auto error = error_of([&] { parse_rope_dims(text, head_dim, &warning); });
  if (!error) return {};
  EXPECT_EQ(error->code(), ExitCode::usage);
  return std::string(error->what()) + " | " + error->hint();
}

TEST(RopeDims, Words) {
  EXPECT_EQ(parsed("full"), 64);
  EXPECT_EQ(parsed("Full"), 64);
  EXPECT_EQ(parsed("0"), 64);
  EXPECT_EQ(parsed("none"), 0);
  EXPECT_EQ(parsed(" none "), 0);
}

TEST(RopeDims, EvenNumbersUpToTheHead) {
  for (int dims = 2; dims <= 64; dims += 2) EXPECT_EQ(parsed(std::to_string(dims)), dims);
  EXPECT_EQ(parsed("2", 2), 2);
}

TEST(RopeDims, LargerThanTheHeadIsFullWithAWarning) {
  for (const char* text : {"65", "66", "128", "1000000"}) {
    std::string warning;
    EXPECT_EQ(parse_rope_dims(text, 64, &warning), 64);
    EXPECT_CONTAINS(warning, "ROPE_DIMS=" + std::string(text));
    EXPECT_CONTAINS(warning, "64 dims");
  }
}

TEST(RopeDims, OddNamesBothNeighbors) {
  EXPECT_CONTAINS(refused("15"), "ROPE_DIMS=15 is odd; the nearest valid values are 14 and 16 (or full, none)");
  EXPECT_CONTAINS(refused("63"), "62 and 64");
  EXPECT_CONTAINS(refused("3"), "2 and 4");
  EXPECT_CONTAINS(refused("1"), "0 (= full) and 2");
}

TEST(RopeDims, ErrorsNameTheOption) {
  std::string warning;
  const auto error = error_of([&] { parse_rope_dims("15", 64, &warning, "EVAL_ROPE_DIMS"); });
  EXPECT_CONTAINS(std::string(error->what()), "EVAL_ROPE_DIMS=15 is odd");
}

TEST(RopeDims, NegativeNamesTheTwoSmallest) {
  EXPECT_CONTAINS(refused("-1"), "ROPE_DIMS=-1 is negative");
  EXPECT_CONTAINS(refused("-16"), "0 (= full) and 2");
}

TEST(RopeDims, TextThatIsNotANumber) {
  for (const char* text : {"", "half", "16x", "0.5", "1e1", "nan", "99999999999999999999"}) {
    const std::string error = refused(text);
    EXPECT_CONTAINS(error, "is not a valid number of dims");
    EXPECT_CONTAINS(error, "even number from 2 to 64");
  }
}

TEST(RopeDims, CanonicalTextReadsBackToTheSame) {
  for (int dims = 0; dims <= 32; dims += 2) {
    EXPECT_EQ(parsed(rope_dims_text(dims, 32), 32), dims);
  }
}

TEST(RopeDims, Description) {
  EXPECT_EQ(describe_rope_dims({64, 64}), "full (64 of 64 dims)");
  EXPECT_EQ(describe_rope_dims({64, 16}), "16 of 64 dims");
  EXPECT_EQ(describe_rope_dims({64, 0}), "none (0 of 64 dims)");
}

TEST(ModelConfig, ParameterCount) {
  ModelConfig model;
  EXPECT_EQ(model.parameter_count(), 17'059'912);
  model.tie_embeddings = false;
  EXPECT_EQ(model.parameter_count(), 17'059'912 + 1024 * 512);

  ModelConfig tiny;
  tiny.num_layers = 4;
  tiny.model_dim = 128;
  tiny.num_heads = 4;
  tiny.num_kv_heads = 2;
  EXPECT_EQ(tiny.parameter_count(), 592'144);
}

TEST(ModelConfig, ParameterCountOfASingleBlockHasNoSkips) {
  ModelConfig model;
  model.vocab_size = 10;
  model.num_layers = 1;
  model.model_dim = 4;
  model.num_heads = 2;
  model.num_kv_heads = 1;
  model.mlp_mult = 3;
  // embedding 40, q 16, k 8, v 8, proj 16, gain 2, fc 48, proj 48, scales 4 + 4, mix 8
  EXPECT_EQ(model.parameter_count(), 40 + 16 + 8 + 8 + 16 + 2 + 48 + 48 + 4 + 4 + 8);
}

TEST(RopeFraction, IsTheNearestEvenNumber) {
  EXPECT_EQ(rope_dims_of_fraction(0, 64), 0);
  EXPECT_EQ(rope_dims_of_fraction(0.001, 64), 2);
  EXPECT_EQ(rope_dims_of_fraction(0.04, 64), 2);
  EXPECT_EQ(rope_dims_of_fraction(0.1, 64), 6);
  EXPECT_EQ(rope_dims_of_fraction(0.1, 128), 12);
  EXPECT_EQ(rope_dims_of_fraction(0.1, 256), 26);
  EXPECT_EQ(rope_dims_of_fraction(0.25, 64), 16);
  EXPECT_EQ(rope_dims_of_fraction(1, 64), 64);
  EXPECT_EQ(rope_dims_of_fraction(0.999, 64), 64);
}

std::vector<int> layers_of(std::string_view text, int num_layers, int head_dim = 64) {
  std::string warning;
  return parse_rope_layers(text, head_dim, num_layers, &warning);
}

TEST(RopeLayers, ListsAndPatternsFillAllLayers) {
  EXPECT_EQ(layers_of("16", 3), (std::vector<int>{16, 16, 16}));
  EXPECT_EQ(layers_of("full*3,none", 4), (std::vector<int>{64, 64, 64, 0}));
  EXPECT_EQ(layers_of("full*3,none", 9), (std::vector<int>{64, 64, 64, 0, 64, 64, 64, 0, 64}));
  EXPECT_EQ(layers_of(" 16 * 8 , full ", 9), (std::vector<int>{16, 16, 16, 16, 16, 16, 16, 16, 64}));
  EXPECT_EQ(layers_of("0,2", 2), (std::vector<int>{64, 2})) << "0 is full, as in ROPE_DIMS";
}

TEST(RopeLayers, TextReadsBack) {
  for (const char* text : {"full*3,none", "16*8,full", "2,4,6"}) {
    const auto layers = layers_of(text, 9);
    EXPECT_EQ(layers_of(rope_layers_text(layers, 64), 9), layers);
  }
  EXPECT_EQ(rope_layers_text({64, 64, 64, 0}, 64), "full*3,none");
}

TEST(RopeLayers, Refused) {
  const auto refused_layers = [](std::string_view text) {
    const auto error = error_of([&] { layers_of(text, 4); });
    return error ? std::string(error->what()) : std::string("accepted");
  };
  EXPECT_CONTAINS(refused_layers("full*5"), "more values than the 4 layers");
  EXPECT_CONTAINS(refused_layers("2,4,6,8,10"), "more values than the 4 layers");
  EXPECT_CONTAINS(refused_layers("full*99999999999999"), "more values than the 4 layers");
  EXPECT_CONTAINS(refused_layers("16*0"), "0 is not a valid layer count");
  EXPECT_CONTAINS(refused_layers("16*x"), "x is not a valid layer count");
  EXPECT_CONTAINS(refused_layers("16,,full"), "a value is missing");
  EXPECT_CONTAINS(refused_layers(""), "a value is missing");
  EXPECT_CONTAINS(refused_layers("15,full"), "ROPE_LAYERS=15,full: 15 is odd; the nearest valid values are 14 and 16");
}

TEST(RopeLayers, LargerThanTheHeadIsFullWithAWarning) {
  std::string warning;
  EXPECT_EQ(parse_rope_layers("128,16", 64, 2, &warning), (std::vector<int>{64, 16}));
  EXPECT_CONTAINS(warning, "ROPE_LAYERS=128,16: 128 exceeds the 64 dims");
}

TEST(RopeSpecs, FitTheirHead) {
  for (const int dims : {0, 2, 64}) EXPECT_EQ(RopeSpec(64, dims).rope_dims, dims);
  for (const int dims : {-2, 3, 66}) EXPECT_THROW(RopeSpec(64, dims), std::invalid_argument) << dims;
}

TEST(RopeSpecs, OfAModelFollowItsShape) {
  ModelConfig model;
  model.num_layers = 20;
  model.num_heads = 4;
  EXPECT_EQ(model.rope_of(19), RopeSpec(128, 128));
  model.rope_dims = 16;
  model.rope.base = 500;
  EXPECT_EQ(model.rope_of(19), RopeSpec(128, 16, {.base = 500}));
  EXPECT_EQ(model.rope_dims.layers_text(128), "same");
  model.rope_dims = {8, 0, 128};
  EXPECT_EQ(model.rope_of(19).rope_dims, 0);
  EXPECT_TRUE(model.widest_rope().full());
  EXPECT_EQ(model.rope_dims.layers_text(128), "8,none,full");
  EXPECT_THROW(RopeDims(std::vector<int>()), std::invalid_argument);
}

TEST(RopeScalings, Refused) {
  RopeSpec spec(64, 64);
  spec.scaling = RopeScaling::yarn;
  EXPECT_CONTAINS(std::string(error_of([&] { check_rope_scaling(spec); })->what()), "ROPE_ORIGINAL_SEQ_LEN");
  spec.scaling = RopeScaling::ntk;
  spec.rope_dims = 2;
  EXPECT_CONTAINS(std::string(error_of([&] { check_rope_scaling(spec); })->what()), "not defined for 2 dims");
  spec.select = RopeSelect::high;  // the span is the head
  EXPECT_NO_THROW(check_rope_scaling(spec));
  spec.scaling_factor = 0.5;
  EXPECT_CONTAINS(std::string(error_of([&] { check_rope_scaling(spec); })->what()), "at least 1");
}

}  // namespace
}  // namespace pgolf
