// Calibration, and a run's artifact by GPTQ.
#include "pgolf/train/pack.h"

#include "pgolf/artifact/model_container.h"
#include "pgolf/config/parameters.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/train/calibrate.h"
#include "pgolf/train/export.h"
#include "pgolf/train/micro_batches.h"
#include "support/models.h"
#include "support/ranks.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

/// Wide enough for the MLPs to be quantized, and the embedding, of 320 pieces; the attention is not.
const Variables wide{{"MODEL_DIM", "208"},  {"NUM_HEADS", "4"},       {"NUM_KV_HEADS", "2"},
                     {"QUANTIZER", "gptq"}, {"COMPRESSOR", "brotli"}, {"GPTQ_CALIBRATION_BATCHES", "3"}};

Variables with(Variables changes) {
  changes.insert(wide.begin(), wide.end());
  return changes;
}

const Hessian& hessian_of(const Hessians& hessians, const std::string& name) {
  for (const Hessian& hessian : hessians) {
    for (const auto& matrix : hessian.matrices) {
      if (matrix == name) return hessian;
    }
  }
  throw std::out_of_range(name);
}

at::Tensor products(const at::Tensor& x) {
  const auto rows = x.reshape({-1, x.size(-1)}).to(at::kFloat);
  return rows.t().mm(rows);
}

/// By hand, from the modules, whatever the fast path makes one operation of.
TEST(Calibrate, SumsProductsOfTheLayersInputs) {
  const torch::NoGradGuard no_grad;
  for (const auto& [path, kind] : {std::pair{OpsPath::reference, MlpKind::relu2},
                                   {OpsPath::fast, MlpKind::relu2},
                                   {OpsPath::fast, MlpKind::leaky_relu2},
                                   {OpsPath::fast, MlpKind::swiglu}}) {
    SCOPED_TRACE(std::string(enum_text(path)) + " " + enum_text(kind));
    ModelConfig config = tiny_config();
    config.num_layers = 1;
    config.mlp_kind = kind;
    Gpt model = make_random_model(config, 5, path);
    model->train();
    const auto ids = random_ids(2, 12, config.vocab_size), more = random_ids(2, 12, config.vocab_size, 12);
    const Hessians hessians = collect_hessians(
        model, 2, [&](int64_t i) { return i == 0 ? ids : more; }, /*embedding=*/true, /*above=*/0);
    EXPECT_TRUE(model->is_training());
    ASSERT_EQ(hessians.size(), kind == MlpKind::swiglu ? 6u : 5u);
    EXPECT_EQ(hessians[0].matrices,
              (std::vector<std::string>{"blocks.0.attn.c_q.weight", "blocks.0.attn.c_k.weight", "blocks.0.attn.c_v.weight"}));
    for (const Hessian& hessian : hessians) EXPECT_GT(hessian.products.trace().item<float>(), 0) << hessian.matrices[0];

    auto& block = model->blocks[0];
    at::Tensor attention, hidden, head;
    const auto add = [](at::Tensor& sum, const at::Tensor& x) { sum = sum.defined() ? sum + products(x) : products(x); };
    for (const auto& batch : {ids, more}) {
      at::Tensor in;
      block->attn->observer = [&](const at::Tensor& x) { add(attention, x); };
      block->mlp->fc->observer = [&](const at::Tensor& x) { in = x; };
      block->mlp->proj->observer = [](const at::Tensor&) {};
      add(head, model->hidden(batch));
      block->attn->observer = block->mlp->fc->observer = block->mlp->proj->observer = nullptr;
      const auto up = in.matmul(block->mlp->fc->weight.t());
      add(hidden, kind == MlpKind::swiglu        ? at::silu(in.matmul(block->mlp->gate->weight.t())) * up
                  : kind == MlpKind::leaky_relu2 ? at::leaky_relu(up, config.mlp_leaky_slope).square()
                                                 : up.relu().square());
    }
    const auto expect = [&](const std::string& name, const at::Tensor& sum) {
      EXPECT_LT(distance(hessian_of(hessians, name).products, sum / 2), 1e-4 * sum.abs().max().item<double>()) << name;
    };
    expect("blocks.0.attn.c_k.weight", attention);
    expect("blocks.0.mlp.proj.weight", hidden);
    expect(parameter_name::token_embedding, head);
  }
}

TEST(Calibrate, OnlyWhatIsQuantized) {
  Gpt model = make_random_model(tiny_config());
  int batches = 0;
  const auto batch = [&](int64_t) {
    ++batches;
    return random_ids(1, 4, 48);
  };
  EXPECT_TRUE(collect_hessians(model, 3, batch, true).empty());
  EXPECT_EQ(batches, 0) << "nothing to do";
  const Hessians some = collect_hessians(model, 3, batch, false, 32 * 32);
  EXPECT_EQ(batches, 3);
  ASSERT_EQ(some.size(), 4u) << "the MLPs' of two blocks";
  for (const Hessian& hessian : some) EXPECT_NE(hessian.matrices.at(0).find(".mlp."), std::string::npos);
}

TEST(Calibrate, LoopedLayersCountOncePerPass) {
  ModelConfig config = tiny_config();
  config.num_layers = 2;
  config.num_loops = 2;
  config.loop_start = config.loop_end = 1;
  Gpt model = make_random_model(config);
  const auto ids = random_ids(1, 8, config.vocab_size);
  const auto trace_of = [&](const std::string& name) {
    const Hessians hessians = collect_hessians(
        model, 1, [&](int64_t) { return ids; }, false, 0);
    return hessian_of(hessians, name).products.trace().item<double>();
  };
  // The inputs are normalized, so that each position adds as much as there are columns.
  const double once = 8.0 * 32;
  EXPECT_NEAR(trace_of("blocks.0.attn.c_q.weight"), once, 0.01 * once);
  EXPECT_NEAR(trace_of("blocks.1.attn.c_q.weight"), 3 * once, 0.01 * once);
  model->set_extra_passes(1);
  EXPECT_NEAR(trace_of("blocks.1.attn.c_q.weight"), 2 * once, 0.01 * once);
}

TEST(Calibrate, StartsWithTheFirstTokensOfTraining) {
  for (const char* kind : {"stream", "shuffled"}) {
    const TrainCommand command = tiny_command(with({{"LOADER", kind}, {"NUM_LAYERS", "1"}}));
    const RunConfig& config = command.config;
    Gpt model(config.model, OpsPath::fast);
    MicroBatches training(config, Runtime(), Process());
    training.load();
    const auto windows = training.get(0).inputs;
    const int64_t per_step = config.data.train_batch_tokens / 8 / config.data.train_seq_len;
    const Hessians expected = collect_hessians(
        model, 3,
        [&](int64_t i) {
          // A micro-batch may consist of several micro-steps.
          std::vector<at::Tensor> all;
          for (int64_t j = 0; j < training.count(); ++j) all.push_back(training.get(j).inputs);
          return at::cat(all).narrow(0, i * per_step, per_step);
        },
        true);
    const Hessians hessians = calibrate(model, config, Runtime(), Process());
    ASSERT_EQ(hessians.size(), 3u);
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(hessians[i].products, expected[i].products)) << kind;
  }
}

TEST(Calibrate, TextsOfTheModel) {
  Gpt model = make_random_model(tiny_config());
  const auto texts = sample_texts(model, 11, 9, 5);
  ASSERT_EQ(texts.size(), 11u);
  for (const auto& text : texts) {
    EXPECT_EQ(text.sizes(), at::IntArrayRef({1, 9}));
    EXPECT_TRUE(text.ge(0).all().item<bool>() && text.lt(48).all().item<bool>());
  }
  const auto again = sample_texts(model, 11, 9, 5), other = sample_texts(model, 11, 9, 6);
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_TRUE(at::equal(texts[i], again[i]));
  EXPECT_FALSE(at::equal(at::cat(texts), at::cat(other)));
  // By the definition, without a cache.
  auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  const torch::NoGradGuard no_grad;
  auto rows = at::randint(48, {8, 1}, generator, at::kLong);
  while (rows.size(1) < 9) {
    const auto probabilities = at::softmax(model->logits(rows).select(1, -1) / 0.8, -1);
    rows = at::cat({rows, at::multinomial(probabilities, 1, false, generator)}, 1);
  }
  EXPECT_TRUE(at::equal(at::cat(std::vector<at::Tensor>(texts.begin(), texts.begin() + 8)), rows));
}

// ---- runs

CodedTensors codes_of(const fs::path& path) {
  return read_codes(std::get<Value>(open_model_container(path).content).as_dict("top"), path.string());
}

TEST(Pack, ARunPacksItsModelByGptq) {
  TinyRun run(with({{"MATRIX_BITS", "5"}}));
  ASSERT_EQ(run.train(), ExitCode::ok);
  ::testing::internal::CaptureStdout();
  ASSERT_EQ(export_model(run.trainer(), run.folder(), 100), ExitCode::ok);
  const std::string log = ::testing::internal::GetCapturedStdout();
  for (const char* part :
       {"gptq:calibrated text:train batches:3 hessians:5 time:", "gptq:quantized matrices:5 bits_per_code:",
        "gptq:compressed brotli bytes:", "Serialized model gptq+brotli: ", "final_gptq_brotli_roundtrip_exact"})
    EXPECT_NE(log.find(part), std::string::npos) << part << " in " << log;
  EXPECT_FALSE(fs::exists(run.folder().artifact()));
  const ModelFile file = read_model_file(run.folder().path);
  EXPECT_EQ(file.path, run.folder().gptq_artifact());
  EXPECT_EQ(format_text(file.format), "gptq+brotli");
  EXPECT_TRUE(file.assumed.empty());
  size_t quantized = 0;
  for (const CodedTensor& tensor : codes_of(run.folder().gptq_artifact())) {
    if (!tensor.scale) continue;
    ++quantized;
    EXPECT_EQ(tensor.quantizer, Quantizer::gptq);
    EXPECT_EQ(tensor.bits, tensor.name == "tok_emb.weight" ? 8 : 5);
  }
  EXPECT_EQ(quantized, 5u);
  // It is the model that the run scored.
  expect_same_tensors(clone_state(state_dict(run.trainer().model())), file.state);
  const auto lines = read_metrics(run.folder().metrics());
  const auto& final = lines.back();
  EXPECT_EQ(final.at("kind"), "final");
  EXPECT_EQ(final.at("artifact_bytes"), fs::file_size(run.folder().gptq_artifact()));
  EXPECT_EQ(final.at("val_loss").get<double>(), run.trainer().validate()->val_loss);
  const auto val = *std::find_if(lines.rbegin(), lines.rend(), [](const auto& line) { return line.at("kind") == "val"; });
  EXPECT_NEAR(final.at("val_loss").get<double>(), val.at("val_loss").get<double>(), 0.3);
}

TEST(Pack, ClipSearchAndOwnText) {
  TinyRun run(with({{"GPTQ_CLIP", "search"}, {"GPTQ_CALIBRATION", "self"}, {"COMPRESSOR", "lzma"}}));
  ASSERT_EQ(run.train(), ExitCode::ok);
  ::testing::internal::CaptureStdout();
  ASSERT_EQ(export_model(run.trainer(), run.folder(), 100), ExitCode::ok);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("gptq:calibrated text:self batches:3 hessians:4 "), std::string::npos);
  const ModelFile file = read_model_file(run.folder().path);
  EXPECT_EQ(file.format.codes, CodeFormat::gptq_types);
  EXPECT_EQ(file.format.codec, Codec::lzma);
  for (const CodedTensor& tensor : codes_of(file.path)) {
    if (!tensor.scale) continue;
    EXPECT_EQ(tensor.bits, tensor.name == "tok_emb.weight" ? 8 : 6);
  }
}

TEST(Pack, FitBudgetMakesItFit) {
  TinyRun plain(with({}));
  ASSERT_EQ(plain.train(), ExitCode::ok);
  ASSERT_EQ(export_model(plain.trainer(), plain.folder(), 5000), ExitCode::ok);
  const auto size = static_cast<int64_t>(fs::file_size(plain.folder().gptq_artifact()));
  const int64_t budget = 5000 + size * 95 / 100;
  TinyRun run(with({{"FIT_BUDGET", "1"}, {"BUDGET_BYTES", std::to_string(budget)}}));
  ASSERT_EQ(run.train(), ExitCode::ok);
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(export_model(run.trainer(), run.folder(), 5000), ExitCode::ok);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("gptq:fitted factor:1."), std::string::npos);
  const auto fitted = static_cast<int64_t>(fs::file_size(run.folder().gptq_artifact()));
  EXPECT_LE(fitted + 5000, budget);
  EXPECT_GT(fitted, size * 93 / 100);
}

TEST(Pack, AModelWithoutLargeMatrices) {
  TinyRun run({{"QUANTIZER", "gptq"}, {"COMPRESSOR", "brotli"}, {"FIT_BUDGET", "1"}});
  ASSERT_EQ(run.train(), ExitCode::ok);
  const StateDict weights = run.weights();
  ASSERT_EQ(export_model(run.trainer(), run.folder(), 0), ExitCode::ok);
  for (const CodedTensor& tensor : codes_of(run.folder().gptq_artifact())) EXPECT_FALSE(tensor.scale) << tensor.name;
  const ModelFile file = read_model_file(run.folder().path);
  for (size_t i = 0; i < weights.size(); ++i)
    EXPECT_TRUE(at::equal(file.state[i].second, weights[i].second.to(at::kHalf).to(at::kFloat)));
}

TEST(Pack, AnotherQuantizerReplacesTheArtifact) {
  TinyRun run(with({{"ITERATIONS", "1"}}));
  ASSERT_EQ(run.train(), ExitCode::ok);
  write_file(run.folder().artifact(), "an older one");
  ASSERT_EQ(export_model(run.trainer(), run.folder(), 0), ExitCode::ok);
  EXPECT_FALSE(fs::exists(run.folder().artifact()));
}

}  // namespace
}  // namespace pgolf::testing
