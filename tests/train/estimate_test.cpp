#include "pgolf/train/estimate.h"

#include <gtest/gtest.h>

namespace pgolf::testing {
namespace {

TEST(Estimate, TheBaselinesArtifact) {
  const ArtifactEstimate estimate = estimate_artifact(RunConfig());
  EXPECT_EQ(estimate.payload_bytes, 17'178'912);
  EXPECT_NEAR(static_cast<double>(estimate.bytes), 15'815'847, 0.002 * 15'815'847);
}

/// Published: 15,967,802 to 15,972,031 bytes for the model of 2026-04-05, and 15,761,428 for that of 2026-03-25, which has 0.45
/// MB of tables besides.
TEST(Estimate, ArtifactsByGptq) {
  RunConfig config;
  config.output.artifact = {Quantizer::gptq, CodeFormat::gptq, Codec::brotli};
  ModelConfig& model = config.model;
  model.num_layers = 11;
  model.vocab_size = 8192;
  model.mlp_mult = 4;
  const auto size = [&] { return static_cast<double>(estimate_artifact(config).bytes); };
  EXPECT_NEAR(size(), 15'970'000, 0.005 * 15'970'000);
  const double before = size();
  config.output.gptq.matrix_clip_sigmas *= 2;
  EXPECT_NEAR(before - size(), 31'719'424 / 8.0 * 1.0115, 20'000) << "one bit per code of the matrices";
  config.output.gptq = {};
  config.output.gptq.clip = GptqClip::search;
  model.vocab_size = 1024;
  model.mlp_mult = 3;
  EXPECT_NEAR(size(), 15'761'428 - 450'000, 0.02 * 15'761'428);
}

}  // namespace
}  // namespace pgolf::testing
