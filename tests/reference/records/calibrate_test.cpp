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
    load_state_dict(model, state_for(run.model, unbanked(load_tensors(state), run.model.num_layers)), state);
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
    if (!sliding.contains("val_bpb")) return;
    EXPECT_NEAR(summary.total.val_bpb, sliding.at("val_bpb").get<double>(), tolerance);
  }

  using ErrorOf = std::function<std::pair<at::Tensor, double>(const std::string& name)>;

  /// Packs the model into m.ptz and compares its codes with those of a recorded artifact, which it returns, and the errors,
  /// weighted by a Hessian, with recorded ones, if there are any.
  CodedTensors compare_codes(Gpt& model, const RunConfig& run, const std::string& recorded, const ErrorOf& error_of) const {
    std::map<std::string, at::Tensor> weights;
    for (const auto& [name, tensor] : state_dict(model)) weights[name] = tensor;
    const auto metadata = metadata_for_file({run.model, run.data.train_seq_len, ""});
    const PackedModel packed = pack_model(model, metadata, run, Runtime(), Process(), 0);
    write_atomic(folder_ / "m.ptz", packed.artifact.file);
    const auto codes_in = [](const std::filesystem::path& path) {
      return read_codes(std::get<Value>(open_model_container(path).content).as_dict("top"), path.string());
    };
    std::map<std::string, CodedTensor> own;
    for (auto& tensor : codes_in(folder_ / "m.ptz")) own[tensor.name] = tensor;
    const auto path = shared_folder() / "reference/records" / recorded;
    const CodedTensors theirs = codes_in(path);
    EXPECT_EQ(own.size(), theirs.size());
    double worst = 0;
    for (const CodedTensor& tensor : theirs) {
      SCOPED_TRACE(tensor.name);
      const CodedTensor& ours = own.at(tensor.name);
      EXPECT_EQ(ours.scale.has_value(), tensor.scale.has_value());
      if (!ours.scale || !tensor.scale) {
        EXPECT_EQ(*ours.data.bytes, *tensor.data.bytes);
        continue;
      }
      EXPECT_EQ(*ours.scale->bytes, *tensor.scale->bytes);
      EXPECT_EQ(ours.bits, tensor.bits);
      const double share = to_tensor(ours.data).ne(to_tensor(tensor.data)).to(at::kDouble).mean().item<double>();
      EXPECT_LE(share, 0.005);
      worst = std::max(worst, share);
      if (!error_of) continue;
      const auto [hessian, expected] = error_of(tensor.name);
      const auto error = (weights.at(tensor.name) - dequantize({ours})[0].second).to(at::kDouble);
      EXPECT_NEAR(error.mm(hessian.to(at::kDouble)).mul(error).sum().item<double>(), expected, 0.01 * expected);
    }
    std::cout << "codes that differ: at most " << 100 * worst << " % of a matrix; artifact of " << packed.artifact.file.size()
              << " bytes, recorded " << std::filesystem::file_size(path) << "\n";
    return theirs;
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

  compare_codes(model, run, std::string("wide/artifact_") + GetParam() + ".ptz", [&](const auto& name) {
    return std::pair(by_name.at(name), matrices.at(name).at("weighted_error").template get<double>());
  });
  const json& scores = recorded.at("evaluations");
  expect_scores(model, scores.at("pre-quantization post-ema"), {}, 1e-6);
  Gpt own_model = build_model(read_model_file(folder_ / "m.ptz"), at::kFloat, OpsPath::reference, at::kCPU);
  expect_scores(own_model, scores.at("quantized"), scores.at("quantized_sliding_window"), 2e-5);
}

/// Calibrated on its own text, with the search for a clip, under xz.
TEST_F(Calibration, ExportOfC) {
  const json recorded = load_json("records/c_export/C.json");
  const auto tensors = load_tensors("records/c_export/C.safetensors");
  RunConfig run = config('C', recorded.at("env"));
  run.output.artifact = {Quantizer::gptq, CodeFormat::gptq_types, Codec::lzma};
  run.output.gptq.calibration = GptqCalibration::self;
  run.output.gptq.clip = GptqClip::search;
  Gpt model = model_with(run, "records/C_valcalib_gptq_xsa/perturbed_state.safetensors");

  const auto& expected = tensors.at("calibration_tokens");
  const auto texts = sample_texts(model, 64, 128, run.runtime.seed);
  int64_t same = 0;
  for (int64_t i = 0; i < 64; ++i) same += at::equal(texts[static_cast<size_t>(i)][0].to(at::kInt), expected[i]);
  std::cout << same << " of 64 texts are the recorded ones\n";
  EXPECT_GE(same, 62);

  if (same == 64) {
    const json& described = recorded.at("hessians_after_averaging_and_first_damping");
    size_t matrices = 0;
    for (const Hessian& hessian : calibrate(model, run, Runtime(), Process())) {
      for (const auto& matrix : hessian.matrices) expect_hessian(hessian.products, described.at(matrix), matrix), ++matrices;
    }
    EXPECT_EQ(matrices, recorded.at("matrices").size());
  }

  const CodedTensors theirs = compare_codes(model, run, "c_export/artifact_C.ptz", nullptr);
  const json& scores = recorded.at("evaluations");
  expect_scores(model, scores.at("post_ema"), {}, 1e-6);
  // The program's windows score the last targets twice; what it scored first are all targets once.
  const double mean = recorded.at("first_8192_nll_mean_f64").get<double>();
  const json sliding{{"val_loss", mean}};
  Gpt own_model = build_model(read_model_file(folder_ / "m.ptz"), at::kFloat, OpsPath::reference, at::kCPU);
  expect_scores(own_model, scores.at("int6_roundtrip"), sliding, 2e-5);
  Gpt stored(run.model, OpsPath::reference);
  load_state_dict(stored, dequantize(theirs), "theirs");
  expect_scores(stored, scores.at("int6_roundtrip"), sliding, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Programs, WideExport, ::testing::Values('A', 'B', 'D'));

}  // namespace
}  // namespace pgolf::reference
