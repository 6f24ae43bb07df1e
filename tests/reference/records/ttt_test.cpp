// Test-time training from a recorded artifact: every chunk's score, every step's loss and norm, and what the model has become.
#include "pgolf/base/format.h"
#include "pgolf/data/validation_set.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/train/test_time_training.h"
#include "record_models.h"

namespace pgolf::reference {
namespace {

struct TttCase {
  const char *name, *artifact, *numbers;
  int64_t targets;
  /// In the numbers: where the case is, and where its chunks are in it; nullptr: none are recorded.
  const char *path, *chunks;
  const char *score, *state, *tensors, *prefix;
};

std::ostream& operator<<(std::ostream& out, const TttCase& c) {
  return out << c.name;
}

class TestTime : public ReferenceTest, public ::testing::WithParamInterface<TttCase> {};

double number(const json& environment, const char* name, double otherwise) {
  return environment.contains(name) ? std::stod(environment.at(name).get<std::string>()) : otherwise;
}

void expect_chunk(const TrainedChunk& chunk, double loss, int64_t targets, const json& expected) {
  SCOPED_TRACE(format("chunk %lld", static_cast<long long>(chunk.index)));
  EXPECT_EQ(chunk.windows, expected.at("windows").get<int64_t>());
  EXPECT_EQ(targets, expected.at("scored_tokens").get<int64_t>());
  const auto mean = [&](double sum) { return sum / static_cast<double>(targets); };
  EXPECT_NEAR(mean(loss), mean(expected.at("scored_nll_sum_f64").get<double>()), 1e-5);
  const auto losses = expected.at("train_losses").get<std::vector<double>>(),
             norms = expected.at("clip_norms").get<std::vector<double>>(), rates = expected.at("lrs").get<std::vector<double>>();
  ASSERT_EQ(chunk.losses.size(), losses.size());
  for (size_t i = 0; i < losses.size(); ++i) {
    EXPECT_NEAR(chunk.losses[i], losses[i], 2e-5) << "step " << i;
    EXPECT_NEAR(chunk.grad_norms[i], norms[i], 2e-5) << "step " << i;
    EXPECT_DOUBLE_EQ(chunk.lr, rates[i]);
  }
}

TEST_P(TestTime, TrainsAsRecorded) {
  const TttCase& c = GetParam();
  const auto recorded = load_json(std::string("records/") + c.numbers);
  const json& numbers = recorded.at(json::json_pointer(c.path));
  const json& environment = numbers.contains("env") ? numbers.at("env") : recorded.at("env");
  const ModelFile file = read_model_file(shared_folder() / "reference/records" / c.artifact,
                                         [&](ModelFile& known) { known.stored.model = record_model('D', environment); });
  Gpt model = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);

  const int64_t seq_len = 128;
  const TestTimeTraining ttt{.enabled = true,
                             .lr = number(environment, "TTT_LR", 0.005),
                             .epochs = static_cast<int>(number(environment, "TTT_EPOCHS", 3)),
                             .momentum = number(environment, "TTT_MOMENTUM", 0.9),
                             .chunk_tokens = static_cast<int64_t>(number(environment, "TTT_CHUNK_TOKENS", 32768))};
  const int64_t targets = c.targets;
  const ValidationSet validation((shared_folder() / "fineweb/sp1024/fineweb_val_head.bin").string(), seq_len, targets);
  std::vector<float> losses;
  double loss = 0;
  int64_t scored = 0, steps = 0, chunks = 0;
  Group group;
  train_at_test_time(
      model, validation.tokens(), {seq_len, static_cast<int64_t>(number(environment, "EVAL_STRIDE", 64))}, ttt, group,
      [&](const ScoredWindow& window, std::span<const float> part) {
        losses.insert(losses.end(), part.begin(), part.end());
        for (const float value : part) loss += value;
        scored += window.scored();
      },
      [&](const TrainedChunk& chunk) {
        if (c.chunks != nullptr)
          expect_chunk(chunk, loss, scored, numbers.at(json::json_pointer(c.chunks)).at(static_cast<size_t>(chunk.index)));
        steps += static_cast<int64_t>(chunk.losses.size());
        ++chunks;
        loss = 0;
        scored = 0;
        return true;
      });
  ASSERT_EQ(static_cast<int64_t>(losses.size()), targets);
  double sum = 0;
  for (const float value : losses) sum += value;
  const double val_loss = sum / static_cast<double>(targets), expected = numbers.at(json::json_pointer(c.score));
  EXPECT_NEAR(val_loss, expected, 1e-6);
  std::cout << chunks << " chunks, " << steps << " steps: val_loss off by " << val_loss - expected << "\n";
  if (numbers.contains("train_steps")) {
    EXPECT_EQ(steps, numbers.at("train_steps").get<int64_t>());
  }
  for (const auto& [name, tensor] : state_dict(model)) {
    const json& described = numbers.at(json::json_pointer(c.state)).at(name);
    expect_near_description(tensor, described, 2e-5, name);
  }
  if (c.tensors == nullptr) return;
  const auto tensors = load_tensors(std::string("records/") + c.tensors);
  EXPECT_LE(relative_error(torch::tensor(losses), tensors.at(c.prefix + std::string("nll"))), 1e-5);
  const auto weights = state_dict(model);
  for (const auto& [name, tensor] : weights) {
    const auto found = tensors.find(c.prefix + ("after." + name));
    if (found != tensors.end()) {
      EXPECT_LE(relative_error(tensor, found->second), 2e-5) << name;
    }
  }
}

constexpr const char* kArtifact = "D_loop3_parallel_ttt/artifact_fp32.ptz";

INSTANTIATE_TEST_SUITE_P(Programs, TestTime,
                         ::testing::Values(TttCase{"run", kArtifact, "D_loop3_parallel_ttt/train_fp32.json", 32768, "",
                                                   "/ttt/chunks", "/evaluations/quantized_ttt/val_loss", "/ttt/state_after",
                                                   "D_loop3_parallel_ttt/ttt_fp32.safetensors", ""},
                                           TttCase{"ragged", kArtifact, "ttt/ttt.json", 12800, "/cases/ragged", "/chunks",
                                                   "/ttt/val_loss", "/state_after", "ttt/ttt.safetensors", "ragged."},
                                           TttCase{"momentum0", kArtifact, "ttt/ttt.json", 8192, "/cases/momentum0", "/chunks",
                                                   "/ttt/val_loss", "/state_after", "ttt/ttt.safetensors", "momentum0."},
                                           TttCase{"no_epochs", kArtifact, "ttt/ttt.json", 8192, "/cases/no_epochs", nullptr,
                                                   "/ttt/val_loss", "/state_after", nullptr, ""},
                                           TttCase{"tiny_chunks", kArtifact, "ttt/ttt.json", 640, "/cases/tiny_chunks", nullptr,
                                                   "/ttt/val_loss", "/state_after", nullptr, ""},
                                           TttCase{"wide", "wide/artifact_D.ptz", "wide/D.json", 8192, "", "/ttt",
                                                   "/evaluations/quantized_ttt/val_loss", "/ttt_state_after", nullptr, ""}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace pgolf::reference
