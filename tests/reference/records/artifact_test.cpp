// The record programs' artifacts: read, and written again object for object.
#include "pgolf/artifact/code_format.h"
#include "pgolf/artifact/model_container.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/base/hash.h"
#include "pgolf/model_io/quantizer.h"
#include "reference/support.h"

namespace pgolf::reference {
namespace {

struct Recorded {
  std::string artifact, numbers;
  CodeFormat format;
  size_t tensors, quantized;
};

const Recorded artifacts[] = {
    {"A_sdclip_loop/artifact_fp32.ptz", "A_sdclip_loop/train_fp32.json", CodeFormat::gptq, 53, 11},
    {"B_hessian_clip_progressive/artifact_fp32.ptz", "B_hessian_clip_progressive/train_fp32.json", CodeFormat::gptq, 53, 11},
    {"D_loop3_parallel_ttt/artifact_fp32.ptz", "D_loop3_parallel_ttt/train_fp32.json", CodeFormat::gptq, 53, 11},
    {"C_valcalib_gptq_xsa/artifact_fp32.ptz", "C_valcalib_gptq_xsa/train_fp32.json", CodeFormat::gptq_types, 61, 13},
    {"wide/artifact_A.ptz", "wide/A.json", CodeFormat::gptq, 23, 13},
    {"wide/artifact_B.ptz", "wide/B.json", CodeFormat::gptq, 23, 13},
    {"wide/artifact_D.ptz", "wide/D.json", CodeFormat::gptq, 23, 13},
    {"c_export/artifact_C.ptz", "c_export/C.json", CodeFormat::gptq_types, 61, 13},
};

class RecordedArtifacts : public ReferenceTest, public ::testing::WithParamInterface<Recorded> {};

TEST_P(RecordedArtifacts, AreReadAndWrittenObjectForObject) {
  const Recorded& recorded = GetParam();
  const json numbers = load_json("records/" + recorded.numbers);
  const ModelContainer container = open_model_container(shared_folder() / "reference/records" / recorded.artifact);
  EXPECT_EQ(container.format.codes, recorded.format);
  EXPECT_EQ(container.unpacked_bytes, numbers.at("raw_container_bytes").get<size_t>());
  const CodedTensors tensors = read_codes(std::get<Value>(container.content).as_dict("top"), recorded.artifact);
  EXPECT_EQ(tensors.size(), recorded.tensors);
  const json& methods = numbers.at("quant_meta");
  ASSERT_EQ(methods.size(), recorded.tensors);
  size_t quantized = 0;
  for (const auto& tensor : tensors) {
    const json& method = methods.at(tensor.name);
    EXPECT_EQ((method.is_object() ? method.at("type") : method).get<std::string>().find("int") != std::string::npos,
              tensor.scale.has_value());
    quantized += tensor.scale.has_value();
  }
  EXPECT_EQ(quantized, recorded.quantized);
  EXPECT_EQ(sha256_hex(save_torch(write_codes(recorded.format, tensors))), numbers.at("raw_container_sha256").get<std::string>());
  for (const auto& [name, tensor] : dequantize(tensors)) {
    const auto described = numbers.at("dequantized").find(name);
    if (described == numbers.at("dequantized").end()) continue;  // of the banks of C
    EXPECT_EQ(sha256_hex(tensor), described->at("sha256").get<std::string>()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, RecordedArtifacts, ::testing::ValuesIn(artifacts));

}  // namespace
}  // namespace pgolf::reference
