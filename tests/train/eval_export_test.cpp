// eval_gpt export --to hf and --to gguf.
#include <nlohmann/json.hpp>

#include "pgolf/artifact/safetensors.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

class EvalExport : public ::testing::Test {
 protected:
  /// One run of an exportable shape for all tests, and one of the default shape.
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    const std::vector<std::string> plain{"--mlp-kind",  "swiglu", "--qk-norm",   "0", "--unet-skips",    "0",
                                         "--resid-mix", "0",      "--rope-dims", "6", "--logit-softcap", "0"};
    for (const auto& [id, flags] : {std::pair("plain", plain), {"stock", {}}}) {
      const auto trained =
          run_program("train_gpt", flags, tiny_variables({{"OUT_DIR", folder_->path().string()}, {"RUN_ID", id}}));
      ASSERT_EQ(trained.code, 0) << trained.err;
    }
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  ProgramResult exported(const std::string& run, const std::string& to, const fs::path& output,
                         std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"export", (*folder_ / run).string(), "--to", to, output.string()});
    return run_program("eval_gpt", more, {{"TOKENIZER_PATH", Dataset::get().tokenizer_path()}});
  }
  static void expect_mistake(const ProgramResult& result, int code, const std::vector<std::string>& parts) {
    EXPECT_EQ(result.code, code) << result.err;
    for (const auto& part : parts) EXPECT_NE(result.err.find(part), std::string::npos) << part << " is not in: " << result.err;
  }

  static TempFolder* folder_;
  TempFolder own_;
};
TempFolder* EvalExport::folder_ = nullptr;

TEST_F(EvalExport, AFolderForTransformers) {
  const auto result = exported("plain", "hf", own_ / "model");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("phi3, width 32, 2 heads of 16, float32"), std::string::npos) << result.out;
  EXPECT_EQ(names_in(own_ / "model"), (std::vector<std::string>{"config.json", "generation_config.json", "model.safetensors",
                                                                "tokenizer.json", "tokenizer_config.json"}));
  const auto config = nlohmann::json::parse(read_text(own_ / "model/config.json"));
  EXPECT_EQ(config["architectures"][0], "Phi3ForCausalLM");
  EXPECT_EQ(config["partial_rotary_factor"], 0.375);
  EXPECT_EQ(config["vocab_size"], 320);
  const auto weights = load_safetensors(own_ / "model/model.safetensors");
  EXPECT_EQ(weights.metadata.at("format"), "pt");
  EXPECT_EQ(weights.tensors.front().first, "model.embed_tokens.weight");

  expect_mistake(exported("plain", "hf", own_ / "model"), 2, {"exists", "--overwrite"});
  EXPECT_EQ(exported("plain", "hf", own_ / "model", {"--overwrite", "--dtype", "bfloat16"}).code, 0);
  EXPECT_EQ(load_safetensors(own_ / "model/model.safetensors").tensors.front().second.dtype, DType::bfloat16);
}

TEST_F(EvalExport, AFileForLlamaCpp) {
  const fs::path path = own_ / "model.gguf";
  const auto result = exported("plain", "gguf", path, {"--dtype", "float16"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(read_text(path).starts_with("GGUF"));
  EXPECT_EQ(exported("plain", "gguf", path, {"--dtype", "float16", "--overwrite"}).code, 0);
}

TEST_F(EvalExport, MistakesLeaveNothingBehind) {
  expect_mistake(exported("stock", "hf", own_ / "m"), 3,
                 {"computes a model with UNET_SKIPS=1 RESID_MIX=1 LOGIT_SOFTCAP=30.0 QK_NORM=1", "hf_small.env"});
  expect_mistake(exported("plain", "hf", own_ / "m", {"--tokenizer-path", (own_ / "no.model").string()}), 3, {"no.model"});
  expect_mistake(exported("plain", "hf", own_ / "no/m"), 2, {"no such folder"});
  expect_mistake(exported("plain", "gguf", own_ / "m.gguf", {"--compressor", "lzma"}), 2, {"COMPRESSOR=lzma"});
  expect_mistake(exported("plain", "hf", own_ / "m", {"--store-assumed", "true"}), 2, {"STORE_ASSUMED"});
  expect_mistake(exported("plain", "suffix", own_ / "m.pt", {"--dtype", "float16"}), 2, {"DTYPE=float16"});
  expect_mistake(exported("plain", "hf", own_ / "m", {"--output", (own_ / "n").string()}), 2, {"one output"});
  write_file(own_ / "file", "precious");
  expect_mistake(exported("plain", "hf", own_ / "file", {"--overwrite"}), 2, {"is no folder"});
  EXPECT_EQ(names_in(own_.path()), std::vector<std::string>{"file"});
}

}  // namespace
}  // namespace pgolf::testing
