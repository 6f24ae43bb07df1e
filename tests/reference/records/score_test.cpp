// eval_gpt on the record programs' own artifacts, which say nothing of their configuration.
#include "pgolf/artifact/safetensors.h"
#include "record_models.h"
#include "support/program.h"

namespace pgolf::reference {
namespace {

using testing::run_program;

struct Scored {
  std::string artifact, numbers;
  char program;
  std::string plain, sliding;  ///< of the evaluations in the recorded numbers
  int64_t targets;
};

class ScoredArtifacts : public ReferenceTest, public ::testing::WithParamInterface<Scored> {
 protected:
  /// The flags for what the file does not show.
  static std::vector<std::string> flags(const ModelConfig& model) {
    std::vector<std::string> out{
        "--train-seq-len", "128",        "--rope-dims", "16",           "--mlp-kind",
        "leaky_relu2",     "--ln-scale", "1",           "--xsa-last-n", std::to_string(model.xsa_last_n)};
    const auto add = [&](const char* flag, const std::string& value) { out.insert(out.end(), {flag, value}); };
    if (model.num_loops > 0) {
      add("--num-loops", std::to_string(model.num_loops));
      add("--loop-start", std::to_string(model.loop_start));
      add("--loop-end", std::to_string(model.loop_end));
    }
    if (model.parallel_residual_start >= 0) add("--parallel-residual-start", std::to_string(model.parallel_residual_start));
    std::string layers;
    for (const int layer : model.ve_layers) layers += (layers.empty() ? "" : ",") + std::to_string(layer);
    if (!layers.empty()) add("--ve-layers", layers);
    return out;
  }

  static json score(std::vector<std::string> arguments) {
    const auto records = shared_folder() / "reference/records";
    arguments.insert(arguments.begin(), {"score", (records / GetParam().artifact).string()});
    arguments.insert(arguments.end(), {"--val-files", (records / "data/fineweb_val_32769.bin").string(), "--tokenizer-path",
                                       (shared_folder() / "fineweb/tokenizers/fineweb_1024_bpe.model").string(), "--dtype",
                                       "float32", "--device", "cpu", "--num-threads", "1", "--ops", "reference", "--format",
                                       "jsonl", "--eval-tokens", std::to_string(GetParam().targets)});
    const auto result = run_program("eval_gpt", arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.code == 0 ? json::parse(result.out.substr(0, result.out.find('\n'))) : json();
  }

  static void expect_score(const json& actual, const json& expected) {
    ASSERT_TRUE(actual.is_object());
    std::cout << "off by " << actual.at("val_loss").get<double>() - expected.at("val_loss").get<double>() << "\n";
    EXPECT_NEAR(actual.at("val_loss").get<double>(), expected.at("val_loss").get<double>(), 1e-6);
    EXPECT_NEAR(actual.at("val_bpb").get<double>(), expected.at("val_bpb").get<double>(), 1e-6);
    EXPECT_EQ(actual.at("format").get<std::string>().substr(0, 5), "gptq+");
  }
};

TEST_P(ScoredArtifacts, HaveTheRecordedScores) {
  const Scored& scored = GetParam();
  const json recorded = load_json("records/" + scored.numbers);
  auto arguments = flags(record_model(scored.program, recorded.at("env")));
  expect_score(score(arguments), recorded.at("evaluations").at(scored.plain));
  arguments.insert(arguments.end(), {"--eval-stride", "64"});
  if (!scored.sliding.empty()) expect_score(score(arguments), recorded.at("evaluations").at(scored.sliding));
}

std::string name_of(const ::testing::TestParamInfo<Scored>& info) {
  std::string name = info.param.artifact.substr(0, info.param.artifact.find(".ptz"));
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

// The program C scores the last targets twice when windows overlap: see ExportOfC in calibrate_test.cpp.
INSTANTIATE_TEST_SUITE_P(
    Programs, ScoredArtifacts,
    ::testing::Values(Scored{"A_sdclip_loop/artifact_fp32.ptz", "A_sdclip_loop/train_fp32.json", 'A', "quantized",
                             "quantized_sliding_window", 0},
                      Scored{"B_hessian_clip_progressive/artifact_fp32.ptz", "B_hessian_clip_progressive/train_fp32.json", 'B',
                             "quantized", "quantized_sliding_window", 0},
                      Scored{"D_loop3_parallel_ttt/artifact_fp32.ptz", "D_loop3_parallel_ttt/train_fp32.json", 'D', "quantized",
                             "quantized_sliding_window", 0},
                      Scored{"C_valcalib_gptq_xsa/artifact_fp32.ptz", "C_valcalib_gptq_xsa/train_fp32.json", 'C',
                             "int6_roundtrip", "", 0},
                      Scored{"wide/artifact_A.ptz", "wide/A.json", 'A', "quantized", "quantized_sliding_window", 8192},
                      Scored{"wide/artifact_B.ptz", "wide/B.json", 'B', "quantized", "quantized_sliding_window", 8192},
                      Scored{"wide/artifact_D.ptz", "wide/D.json", 'D', "quantized", "quantized_sliding_window", 8192},
                      Scored{"c_export/artifact_C.ptz", "c_export/C.json", 'C', "int6_roundtrip", "", 8192}),
    name_of);

}  // namespace
}  // namespace pgolf::reference
