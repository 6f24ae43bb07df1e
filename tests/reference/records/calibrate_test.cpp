// From weights to a file, as the record programs export: inputs' Hessians, codes, artifact, and its scores.
#include "pgolf/train/calibrate.h"

#include "pgolf/artifact/code_format.h"
#include "pgolf/artifact/model_container.h"
#include "pgolf/config/model_metadata.h"
#include "pgolf/eval/score.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/train/micro_batches.h"
#include "pgolf/train/pack.h"
#include "record_models.h"
#include "support/files.h"

namespace pgolf::reference {
namespace {

using testing::TempFolder;

/// The largest difference of numbers that describe a tensor, relative to its largest entry or norm.
void expect_hessian(const at::Tensor& actual, const json& described, const std::string& name) {
  expect_near_description(actual, described, 1e-5, name);
}

class Calibration : public ReferenceTest {
 protected:
  void SetUp() override {
    ReferenceTest::SetUp();
    if (IsSkipped()) return;
    std::filesystem::create_symlink(std::filesystem::absolute(shared_folder() / "fineweb/sp1024/fineweb_train_head.bin"),
                                    folder_ / "fineweb_train_0.bin");
    std::filesystem::create_symlink(std::filesystem::absolute(shared_folder() / "reference/records/data/fineweb_val_32769.bin"),
                                    folder_ / "fineweb_val_0.bin");
  }

  /// A run of a record program with these variables.
  RunConfig config(char program, const json& environment) const {
    const auto number = [&](const char* name, double absent) {
      return environment.contains(name) ? std::stod(environment.at(name).get<std::string>()) : absent;
    };
    RunConfig run;
    run.model = record_model(program, environment);
    run.data.data_path = folder_.path().string();
    run.data.loader = LoaderChoice::shuffled;
    run.data.train_batch_tokens = static_cast<int64_t>(number("TRAIN_BATCH_TOKENS", 0));
    run.data.train_seq_len = static_cast<int>(number("TRAIN_SEQ_LEN", 0));
    run.runtime.ops = OpsPath::reference;
    run.runtime.seed = static_cast<int64_t>(number("SEED", 0));
    run.output.artifact = {Quantizer::gptq, CodeFormat::gptq, Codec::brotli};
    run.output.gptq.calibration_batches = static_cast<int>(number("GPTQ_CALIBRATION_BATCHES", 64));
    run.output.gptq.hessian_clip_lambda = number("HESSIAN_CLIP_LAMBDA", 0);
    return run;
  }

  static Gpt model_with(const RunConfig& run, const std::string& state) {
    Gpt model(run.model, OpsPath::reference);
    load_state_dict(model, state_for(run.model, load_tensors(state)), state);
    return model;
  }

  /// Plain, and with windows that overlap by half, on the recording's validation tokens.
  void expect_scores(Gpt& model, const json& plain, const json& sliding, double tolerance) const {
    const auto tokens = plain.value("tokens", 8192.0);
    const auto validation =
        ValidationSet((folder_ / "fineweb_val_0.bin").string(), 128, static_cast<int64_t>(tokens), model->config().vocab_size);
    const Tokenizer tokenizer((shared_folder() / "fineweb/tokenizers/fineweb_1024_bpe.model").string());
    const ByteCounts bytes(tokenizer, model->config().vocab_size);
    EvalOptions options;
    options.seq_len = 128;
    options.batch_sequences = 64;
    const EvalResult once = evaluate(model, validation, bytes, options);
    EXPECT_NEAR(once.val_loss, plain.at("val_loss").get<double>(), tolerance);
    EXPECT_NEAR(once.val_bpb, plain.at("val_bpb").get<double>(), tolerance);
    std::cout << "val_loss off by " << once.val_loss - plain.at("val_loss").get<double>() << "\n";
    if (sliding.is_null()) return;
    ScoreOptions overlapping;
    overlapping.seq_len = 128;
    overlapping.stride = 64;
    const auto summary =
        summarize(score_stream(model, validation.tokens(), overlapping), validation.tokens(), bytes, overlapping.seq_len);
    EXPECT_NEAR(summary.total.val_loss, sliding.at("val_loss").get<double>(), tolerance);
    EXPECT_NEAR(summary.total.val_bpb, sliding.at("val_bpb").get<double>(), tolerance);
  }

  TempFolder folder_;
};

/// At a state with noise on all weights, with two batches; all matrices, whatever their size.
TEST_F(Calibration, HessiansOfAllMatrices) {
  for (const char program : {'A', 'B'}) {
    const json recorded = load_json(record_folder(program) + std::string("hessian_perturbed.json"));
    const RunConfig run = config(program, recorded.at("env"));
    Gpt model = model_with(run, "records/common/perturbed_state.safetensors");
    for (const auto& [name, expected] : recorded.at("cases").items()) {
      SCOPED_TRACE(program + (" " + name));
      model->set_extra_passes(name == "unlooped" ? 0 : run.model.num_loops);
      const auto loader = make_loader(run, Process());
      const Hessians hessians = collect_hessians(
          model, 2,
          [&](int64_t) {
            const auto tokens = loader->next(8192, 8);
            return at::tensor(std::vector<int64_t>(tokens.begin(), tokens.end())).view({-1, 129}).narrow(1, 0, 128).contiguous();
          },
          /*embedding=*/true, /*above=*/0);
      size_t matrices = 0;
      for (const Hessian& hessian : hessians) {
        for (const auto& matrix : hessian.matrices) {
          expect_hessian(hessian.products, expected.at("hessians").at(matrix), matrix);
          ++matrices;
        }
      }
      EXPECT_EQ(matrices, expected.at("hessians").size());
      EXPECT_EQ(hessians.size(), matrices - 2 * 5) << "queries, keys and values share theirs";
    }
  }
}

class WideExport : public Calibration, public ::testing::WithParamInterface<char> {};

TEST_P(WideExport, FromWeightsToScores) {
  const std::string name = "records/wide/" + std::string(1, GetParam());
  const json recorded = load_json(name + ".json");
  const RunConfig run = config(GetParam(), recorded.at("env"));
  Gpt model = model_with(run, "records/wide/state.safetensors");

  const Hessians hessians = calibrate(model, run, Runtime(), Process());
  const json& matrices = recorded.at("matrices");
  std::map<std::string, at::Tensor> by_name;
  for (const Hessian& hessian : hessians) {
    for (const auto& matrix : hessian.matrices) {
      by_name[matrix] = hessian.products;
      expect_hessian(hessian.products, matrices.at(matrix).at("H"), matrix);
    }
  }
  EXPECT_EQ(by_name.size(), matrices.size());
  EXPECT_EQ(hessians.size(), 9u) << "four in each of two blocks, and the head's";

  const StateDict weights = state_dict(model);
  const PackedModel packed =
      pack_model(model, metadata_for_file(run.model, run.data.train_seq_len), run, Runtime(), Process(), 0);
  write_atomic(folder_ / "m.ptz", packed.artifact.file);
  const auto codes_in = [](const std::filesystem::path& path) {
    return read_codes(std::get<Value>(open_model_container(path).content).as_dict("top"), path.string());
  };
  const CodedTensors own = codes_in(folder_ / "m.ptz");
  const CodedTensors theirs =
      codes_in(shared_folder() / "reference/records/wide" / (std::string("artifact_") + GetParam() + ".ptz"));
  ASSERT_EQ(own.size(), theirs.size());
  double worst = 0;
  for (size_t i = 0; i < own.size(); ++i) {
    SCOPED_TRACE(own[i].name);
    EXPECT_EQ(own[i].name, theirs[i].name);
    if (!own[i].scale) {
      EXPECT_EQ(*own[i].data.bytes, *theirs[i].data.bytes);
      continue;
    }
    EXPECT_EQ(*own[i].scale->bytes, *theirs[i].scale->bytes);
    EXPECT_EQ(own[i].bits, theirs[i].bits);
    const double share = to_tensor(own[i].data).ne(to_tensor(theirs[i].data)).to(at::kDouble).mean().item<double>();
    EXPECT_LE(share, 0.005);
    worst = std::max(worst, share);
    const auto error = (weights[i].second - dequantize({own[i]})[0].second).to(at::kDouble);
    const double weighted = error.mm(by_name.at(own[i].name).to(at::kDouble)).mul(error).sum().item<double>();
    const double expected = matrices.at(own[i].name).at("weighted_error").get<double>();
    EXPECT_NEAR(weighted, expected, 0.01 * expected);
  }
  std::cout << "codes that differ: at most " << 100 * worst << " % of a matrix; artifact of " << packed.artifact.file.size()
            << " bytes, recorded " << recorded.at("artifact_bytes") << "\n";

  const json& scores = recorded.at("evaluations");
  expect_scores(model, scores.at("pre-quantization post-ema"), {}, 1e-6);
  Gpt own_model = build_model(read_model_file(folder_ / "m.ptz"), at::kFloat, OpsPath::reference, at::kCPU);
  expect_scores(own_model, scores.at("quantized"), scores.at("quantized_sliding_window"), 2e-5);
  Gpt stored(run.model, OpsPath::reference);
  load_state_dict(stored, dequantize(theirs), "theirs");
  expect_scores(stored, scores.at("quantized"), scores.at("quantized_sliding_window"), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Programs, WideExport, ::testing::Values('A', 'B', 'D'));

}  // namespace
}  // namespace pgolf::reference
