// Damaged and malicious model files must give an Error or a model, nothing else.
#include <sys/resource.h>

#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/pickle.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/artifact/zip.h"
#include "pgolf/model_io/checkpoint.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/model_writer.h"
#include "pgolf/model_io/quantizer.h"
#include "pgolf/model_io/tensors.h"
#include "smallest_model.h"

namespace pgolf::testing {
namespace {

class DamagedFiles : public ::testing::Test {
 protected:
  int damage_every_byte(const std::string& name) {
    const Bytes original = read_bytes(folder_ / name);
    EXPECT_TRUE(survives(folder_ / name, original));
    int accepted = 0;
    for (size_t at = 0; at < original.size(); ++at) {
      for (const int flip : {0x01, 0xff}) {
        Bytes damaged = original;
        damaged[at] ^= static_cast<std::byte>(flip);
        accepted += survives(folder_ / name, damaged);
      }
    }
    return accepted;
  }

  ModelConfig config_ = smallest_config();
  Gpt model_ = make_random_model(config_);
  ModelMetadata metadata_ = model_metadata(config_, 8);
  TempFolder folder_;
};

TEST_F(DamagedFiles, StateDict) {
  write_model(folder_ / "m.pt", state_dict(model_), config_, metadata_);
  // Checksums cover everything but the directory's dates and versions.
  damage_every_byte("m.pt");
}

TEST_F(DamagedFiles, Artifact) {
  write_model(folder_ / "m.ptz", state_dict(model_), config_, metadata_);
  EXPECT_LT(damage_every_byte("m.ptz"), 10) << "zlib's checksum covers all but its header";
}

TEST_F(DamagedFiles, Safetensors) {
  write_model(folder_ / "m.safetensors", state_dict(model_), config_, metadata_);
  EXPECT_GT(damage_every_byte("m.safetensors"), 0) << "weights have no checksum";
}

TEST_F(DamagedFiles, Checkpoint) {
  TrainingState training;
  training.step = 5;
  training.model = metadata_;
  StateDict tensors;
  for (const auto& [name, tensor] : state_dict(model_)) tensors.emplace_back("model." + name, tensor);
  save_checkpoint(folder_.path(), training, tensors);
  damage_every_byte("step_00000005.safetensors");
}

/// Damage that checksums catch in the tests above: a damaged pickle in an artifact with valid checksums.
TEST_F(DamagedFiles, PickleOfAnArtifact) {
  Dict object =
      write_codes(CodeFormat::int8_clean_per_row_v1, quantize_int8(state_dict(model_), OptimConfig().control_patterns).tensors);
  set_artifact_config(&object, metadata_);
  // Small tensors are not quantized; this one is, by hand.
  const auto set = [&](const char* part, RawTensor tensor) {
    Dict dict = object.find(part)->as_dict(part);
    dict.set(text("tok_emb.weight"), std::move(tensor));
    object.set(text(part), std::move(dict));
  };
  Dict passthrough;
  for (const auto& [key, value] : object.find("passthrough")->as_dict("").entries()) {
    if (*key != "tok_emb.weight") passthrough.set(key, value);
  }
  object.set(text("passthrough"), std::move(passthrough));
  set("quantized", to_raw(torch::ones({4, 4}, at::kChar)));
  set("scales", to_raw(torch::ones({4}, at::kHalf)));
  Dict dtypes;
  dtypes.set(text("tok_emb.weight"), text("float32"));
  object.set(text("dtypes"), std::move(dtypes));
  Pickled pickled = pickle(object);
  const Bytes original = pickled.pickle;
  int accepted = 0;
  for (size_t at = 0; at < original.size(); ++at) {
    for (const int value : {0x00, 0x2e, 0x7d, 0xff}) {
      pickled.pickle = original;
      pickled.pickle[at] = static_cast<std::byte>(value);
      TorchZipWriter zip("archive");
      zip.add("data.pkl", pickled.pickle);
      for (size_t i = 0; i < pickled.storages.size(); ++i) zip.add("data/" + std::to_string(i), *pickled.storages[i]);
      accepted += survives(folder_ / "m.ptz", zip.finish());
    }
  }
  EXPECT_GT(accepted, 0);
}

TEST_F(DamagedFiles, AConfigurationThatClaimsTooMuchCostsNothing) {
  for (const auto& [option, value] : std::map<std::string, std::string>{{"VOCAB_SIZE", "65536"},
                                                                        {"NUM_LAYERS", "1000"},
                                                                        {"MODEL_DIM", "65536"},
                                                                        {"MLP_MULT", "1024"},
                                                                        {"NUM_HEADS", "65536"},
                                                                        {"NUM_KV_HEADS", "2"},
                                                                        {"TIE_EMBEDDINGS", "0"}}) {
    ModelMetadata claim = metadata_;
    claim[option] = value;
    write_model(folder_ / "m.pt", state_dict(model_), config_, claim);
    rusage before{}, after{};
    ::getrusage(RUSAGE_SELF, &before);
    expect_error(ExitCode::bad_input, {"m.pt"}, [&] { read_model_file(folder_ / "m.pt"); });
    ::getrusage(RUSAGE_SELF, &after);
    EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 100 << 10) << option << ", KiB";
  }
}

TEST_F(DamagedFiles, IntegerTensorsAreNotWeights) {
  for (const auto type : {at::kLong, at::kBool, at::kChar}) {
    StateDict state = state_dict(model_);
    state[1].second = torch::ones({4, 4}, type);
    write_model(folder_ / "m.safetensors", state, config_, metadata_);
    expect_error(ExitCode::bad_input, {"m.safetensors", "tok_emb.weight", "integers"},
                 [&] { read_model_file(folder_ / "m.safetensors"); });
  }
}

TEST_F(DamagedFiles, ForeignArtifactsAreRejectedWithAReason) {
  Dict object = write_codes(CodeFormat::int8_clean_per_row_v1, quantize_int8(state_dict(model_), {}).tensors);
  object.set(text("__quant_format__"), text("int6_gptq\n"));
  write_atomic(folder_ / "m.ptz", zlib_compress(save_torch(object), 9));
  expect_error(ExitCode::bad_input, {"unknown quantization format \"int6_gptq?\""}, [&] { read_model_file(folder_ / "m.ptz"); });
  const auto foreign = StateDict{{"prelude.0.w", torch::ones({2})}, {"coda.w", torch::ones({2})}};
  write_model(folder_ / "m.pt", foreign, config_, {});
  expect_error(ExitCode::bad_input, {"not a GPT of this family", "tok_emb.weight", "found prelude, coda"},
               [&] { read_model_file(folder_ / "m.pt"); });
}

}  // namespace
}  // namespace pgolf::testing
