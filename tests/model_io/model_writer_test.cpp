#include "pgolf/model_io/model_writer.h"

#include <algorithm>
#include <limits>

#include "pgolf/artifact/safetensors.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/tensors.h"
#include "support/files.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

class ModelWriter : public ::testing::Test {
 protected:
  /// From file to file, like eval_gpt export.
  void convert(const fs::path& from, const fs::path& to) const {
    const ModelFile file = read_model_file(from);
    write_model(to, file.state, file.stored.model, file.metadata);
  }

  ModelConfig config_ = [] {
    ModelConfig config = tiny_config();
    config.rope_dims = 4;
    return config;
  }();
  Gpt model_ = make_random_model(config_);
  ModelMetadata metadata_ = model_metadata(config_, 24);
  TempFolder folder_;
};

TEST_F(ModelWriter, TorchAndSafetensorsAreLosslessBothWays) {
  for (const bool bfloat16 : {false, true}) {
    if (bfloat16) {
      set_parameter_precision(model_, at::kBFloat16, OptimConfig().control_patterns);
      torch::NoGradGuard no_grad;  // bits that a comparison of values would miss, and others that it would trip over
      model_->skip_weights[0][0] = -0.0f;
      model_->tok_emb->weight[0][1] = std::numeric_limits<float>::infinity();
    }
    const auto state = state_dict(model_);
    for (const auto& metadata : {metadata_, ModelMetadata()}) {
      const fs::path pt = folder_ / "model.pt", safetensors = folder_ / "model.safetensors";
      write_model(pt, state, config_, metadata);
      const Bytes original = read_bytes(pt);
      convert(pt, safetensors);
      const ModelFile file = read_model_file(safetensors);
      EXPECT_EQ(format_text(file.format), "safetensors");
      EXPECT_EQ(file.metadata, metadata);
      EXPECT_EQ(file.assumed.empty(), !metadata.empty());
      expect_same_tensors(file.state, state);
      const Bytes there = read_bytes(safetensors);
      convert(safetensors, pt);
      EXPECT_EQ(read_bytes(pt), original);
      convert(pt, safetensors);
      EXPECT_EQ(read_bytes(safetensors), there);
    }
  }
}

TEST_F(ModelWriter, SafetensorsFromOtherWritersAreReadInAnyOrder) {
  write_model(folder_ / "model.pt", state_dict(model_), config_, metadata_);
  convert(folder_ / "model.pt", folder_ / "model.safetensors");
  Safetensors other = load_safetensors(folder_ / "model.safetensors");
  std::reverse(other.tensors.begin(), other.tensors.end());
  other.metadata.clear();
  save_safetensors(folder_ / "other.safetensors", other);
  const ModelFile file = read_model_file(folder_ / "other.safetensors");
  EXPECT_FALSE(file.assumed.empty());
  expect_same_tensors(file.state, state_dict(model_));
}

TEST_F(ModelWriter, ArtifactsHoldTheConfigurationOrNone) {
  for (const auto& metadata : {metadata_, ModelMetadata()}) {
    write_model(folder_ / "m.ptz", state_dict(model_), config_, metadata);
    const ModelFile file = read_model_file(folder_ / "m.ptz");
    EXPECT_EQ(format_text(file.format), "int8+zlib");
    EXPECT_EQ(file.metadata, metadata);
    // The order is the model's, although the artifact stores quantized tensors separately.
    EXPECT_EQ(names_of(file.state), names_of(state_dict(model_)));
  }
}

TEST_F(ModelWriter, TheOlderGptqFormatGroupsTensorsByKind) {
  QuantizedModel model;
  for (const char* name :
       {"tok_emb.weight", "blocks.0.a", "blocks.0.b.c", "blocks.1.a", "blocks.1.b.c", "blocks.10.a", "blocks.x"})
    model.tensors.push_back({name, to_raw(torch::ones({1}, at::kHalf)), {}, DType::float32});
  const auto names = [&](CodeFormat format) {
    const Artifact artifact = make_artifact(model, {}, {Quantizer::gptq, format, Codec::zlib});
    const Value file = load_torch(decompress(Codec::zlib, artifact.file, 1 << 20, "f"), "f");
    std::vector<std::string> out;
    for (const auto& entry : file.as_dict("f").find("m")->as_dict("m").entries()) out.push_back(*entry.key);
    return out;
  };
  EXPECT_EQ(names(CodeFormat::gptq_types), (std::vector<std::string>{"tok_emb.weight", "blocks.0.a", "blocks.1.a", "blocks.10.a",
                                                                     "blocks.0.b.c", "blocks.1.b.c", "blocks.x"}));
  EXPECT_EQ(names(CodeFormat::gptq)[2], "blocks.0.b.c");
}

TEST_F(ModelWriter, SuffixesDecide) {
  EXPECT_EQ(format_text(model_format("a/final_model.pt")), "torch");
  EXPECT_EQ(format_text(model_format("final_model.int8.ptz")), "int8+zlib");
  EXPECT_EQ(format_text(model_format("x.safetensors")), "safetensors");
  for (const char* name : {"model.bin", "model", "model.PT", ".pt"})
    expect_error(ExitCode::usage, {name, ".safetensors"}, [&] { model_format(name); });
}

}  // namespace
}  // namespace pgolf::testing
