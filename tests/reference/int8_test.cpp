// The artifact: codes, scales, kept tensors, byte lengths, and the files themselves.
#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/quantizer.h"
#include "support.h"

namespace pgolf::reference {
namespace {

using Int8 = ReferenceTest;

void check_quantized(const StateDict& state, const std::string& name) {
  SCOPED_TRACE(name);
  const auto described = load_json("int8/" + name + ".json");
  const auto tensor_file = "int8/" + name + ".safetensors";
  const auto tensors = std::filesystem::exists(shared_folder() / "reference" / tensor_file) ? load_tensors(tensor_file)
                                                                                            : std::map<std::string, at::Tensor>();
  const QuantizedModel quantized = quantize_int8(state, control_patterns());
  const QuantStats& stats = quantized.stats;
  const Dict object = write_codes(CodeFormat::int8_clean_per_row_v1, quantized.tensors);
  EXPECT_EQ(stats.baseline_tensor_bytes, described.at("quant_stats").at("baseline_tensor_bytes").get<int64_t>());
  EXPECT_EQ(stats.payload_bytes, described.at("quant_stats").at("int8_payload_bytes").get<int64_t>());

  std::vector<std::string> keys;
  for (const auto& entry : object.entries()) keys.push_back(*entry.key);
  EXPECT_EQ(keys, described.at("object_keys").get<std::vector<std::string>>());
  for (const char* part : {"quantized", "scales", "passthrough"}) {
    const Dict& dict = object.find(part)->as_dict(part);
    if (std::string(part) != "passthrough") {
      EXPECT_EQ(dict.size(), described.at(part).size()) << part;
    }
    for (const auto& [key, value] : dict.entries()) {
      const auto tensor = to_tensor(value.as_tensor(*key));
      if (described.at(part).is_object()) {
        EXPECT_EQ(sha256_hex(tensor), described.at(part).at(*key).at("sha256").get<std::string>()) << part << " " << *key;
      }
      const auto found = tensors.find(format("%s.%s", part, key->c_str()));
      if (found != tensors.end()) {
        EXPECT_TRUE(at::equal(tensor.reshape(found->second.sizes()), found->second)) << part << " " << *key;
      }
    }
  }

  const Bytes raw = save_torch(object);
  EXPECT_EQ(static_cast<int64_t>(raw.size()), described.at("raw_torch_save_bytes").get<int64_t>());
  EXPECT_EQ(sha256_hex(raw), described.at("raw_torch_save_sha256").get<std::string>());
  // Other builds of zlib may pack differently.
  if (const auto packed = zlib_compress(raw, 9); sha256_hex(packed) != described.at("zlib9_sha256").get<std::string>()) {
    EXPECT_NEAR(static_cast<double>(packed.size()), described.at("zlib9_bytes").get<double>(),
                0.01 * described.at("zlib9_bytes").get<double>());
  }

  for (const auto& [key, tensor] : dequantize(read_codes(object, name))) {
    EXPECT_EQ(sha256_hex(tensor), described.at("dequantized").at(key).at("sha256").get<std::string>()) << "dequantized " << key;
  }
}

TEST_F(Int8, SyntheticInput) {
  const auto tensors = load_tensors("int8/synthetic_input.safetensors");
  StateDict state;
  const auto input = load_json("int8/synthetic_input.json");
  for (const auto& name : input.at("order")) state.emplace_back(name.get<std::string>(), tensors.at(name.get<std::string>()));
  check_quantized(state, "synthetic");
}

StateDict in_model_order(StateDict state) {
  Gpt model(tiny_model(), OpsPath::reference);
  StateDict ordered;
  for (const auto& [name, unused] : state_dict(model)) {
    for (const auto& entry : state) {
      if (entry.first == name) ordered.push_back(entry);
    }
  }
  return ordered;
}

TEST_F(Int8, TrainedFloat32) {
  check_quantized(in_model_order(load_state("train_tiny/fp32.final_state.safetensors")), "train_tiny_fp32_final");
}

TEST_F(Int8, TrainedBfloat16FromUpstreamsFile) {
  check_quantized(read_model_file(shared_folder() / "reference/train_tiny/bf16.final_model.pt").state, "train_tiny_bf16_final");
}

TEST_F(Int8, Relu3Checkpoint) {
  check_quantized(read_model_file(shared_folder() / "checkpoints/relu3_3x128/final_model.pt").state, "relu3_3x128");
}

TEST_F(Int8, InitialBaseline) {
  torch::manual_seed(1337);
  Gpt model(ModelConfig(), OpsPath::reference);
  set_parameter_precision(model, at::kBFloat16, control_patterns());
  check_quantized(state_dict(model), "init_default_9x512_seed1337");
}

TEST_F(Int8, RawModelFileHasUpstreamsBytes) {
  const auto recorded = load_json("train_tiny/fp32.json");
  NamedTensors raw;
  for (const auto& [name, tensor] : in_model_order(load_state("train_tiny/fp32.final_state.safetensors")))
    raw.emplace_back(name, to_raw(tensor));
  const Bytes file = save_torch(state_dict_value(raw, upstream_module_paths(tiny_model()), {}), "final_model");
  EXPECT_EQ(static_cast<int64_t>(file.size()), recorded.at("final_pt_bytes").get<int64_t>());
  EXPECT_EQ(sha256_hex(file), recorded.at("final_pt_sha256").get<std::string>());
}

}  // namespace
}  // namespace pgolf::reference
