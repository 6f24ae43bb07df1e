// The trainer on every device: its steps compared with the reference on the CPU, and with itself resumed, warmed up, and without
// CUDA graphs.
#include "support/device.h"

#include <optional>

#include "pgolf/model_io/model_file.h"
#include "pgolf/train/export.h"
#include "support/training.h"

namespace pgolf::testing::devices {
namespace {

/// Fails if recording a CUDA graph fails in body; a run then continues without graphs, with a warning.
template <class F>
void expect_recordings_to_succeed(const F& body) {
  ::testing::internal::CaptureStderr();
  std::string problem;
  try {
    body();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  const std::string warnings = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(warnings.find("could not be recorded"), std::string::npos) << warnings;
  EXPECT_EQ(problem, "");
}

class DeviceTrainer : public DeviceTest {
 protected:
  static Variables here(Variables changes) {
    changes["DEVICE"] = on_cuda() ? "cuda" : "cpu";
    return changes;
  }

  struct Run : TinyRun {
    explicit Run(const Variables& changes) : TinyRun(here(changes)) {
      forbid_tf32();
      // A run with graphs has its own stream, which does not wait for the previous run's.
      synchronize(trainer().runtime().device);
    }
    ~Run() { synchronize(trainer().runtime().device); }
  };

  struct Trained {
    std::vector<StepRecord> steps;
    std::vector<double> val_losses;
    StateDict weights;  ///< on the CPU
  };
  static Trained train(Run& run) {
    Trained trained;
    run.trainer().on_step = [&](const StepRecord& step) { trained.steps.push_back(step); };
    expect_recordings_to_succeed([&] { EXPECT_EQ(run.train(), ExitCode::ok); });
    for (const auto& line : read_metrics(run.folder().metrics())) {
      if (line.at("kind") == "val") trained.val_losses.push_back(line.at("val_loss"));
    }
    trained.weights = on_cpu(run.weights());
    return trained;
  }

  /// On the CPU bit for bit. On a GPU gradients of embeddings and of attention may be summed in any order, and Newton-Schulz
  /// amplifies the rounding, 2^-24 in float32 and 2^-9 in bfloat16, by up to 485 where a gradient is small. Dividing a step into
  /// different micro-batches has the same effect on the CPU: in ten steps of these runs it changes float32 losses by 5e-7, norms
  /// by 1e-6 and weights by 1e-5, and bfloat16 losses by 1e-2, norms by 4e-2 and weights by too much to compare.
  static void expect_same(const Trained& got, const Trained& expected, const std::string& dtype) {
    const bool float32 = dtype == "float32";
    const double loss_tolerance = !on_cuda() ? 0 : float32 ? 1e-4 : 3e-2;
    ASSERT_EQ(got.steps.size(), expected.steps.size());
    for (size_t i = 0; i < got.steps.size(); ++i) {
      SCOPED_TRACE(c10::str("step ", expected.steps[i].step));
      EXPECT_EQ(got.steps[i].step, expected.steps[i].step);
      EXPECT_EQ(got.steps[i].lr_scale, expected.steps[i].lr_scale);
      EXPECT_EQ(got.steps[i].muon_momentum, expected.steps[i].muon_momentum);
      EXPECT_NEAR(got.steps[i].train_loss, expected.steps[i].train_loss, loss_tolerance);
      const double norm = expected.steps[i].grad_norm;
      EXPECT_NEAR(got.steps[i].grad_norm, norm, (!on_cuda() ? 0 : float32 ? 5e-4 : 0.1) * norm);
    }
    ASSERT_EQ(got.val_losses.size(), expected.val_losses.size());
    for (size_t i = 0; i < got.val_losses.size(); ++i)
      EXPECT_NEAR(got.val_losses[i], expected.val_losses[i], loss_tolerance) << i;
    if (!on_cuda()) expect_same_tensors(got.weights, expected.weights);
    if (on_cuda() && float32) expect_near(got.weights, expected.weights);
  }

  static void expect_near(const StateDict& got, const StateDict& expected) {
    ASSERT_EQ(names_of(got), names_of(expected));
    for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(mean_error(got[i].second, expected[i].second), 1e-3) << got[i].first;
  }
};

/// Non-zero weights that are exact in bfloat16.
StateDict some_weights(Trainer& trainer) {
  torch::manual_seed(21);
  StateDict weights = on_cpu(state_dict(trainer.model()));
  for (auto& [name, weight] : weights) weight = (weight + torch::randn_like(weight) * 0.1).to(at::kBFloat16).to(at::kFloat);
  return weights;
}

TEST_P(DeviceTrainer, StepsMatchTheReferencesLossAndGradients) {
  constexpr int steps = 4;  // as they are, recorded, and twice replayed
  StateDict weights;
  std::vector<double> losses;
  std::vector<StateDict> gradients;
  const auto gradients_in = [](Trainer& trainer) {
    StateDict now;
    for (const auto& item : trainer.model()->named_parameters()) now.emplace_back(item.key(), item.value().grad());
    return on_cpu(now);
  };
  {
    TinyRun reference({{"OPS", "reference"}});
    weights = some_weights(reference.trainer());
    load_state_dict(reference.trainer().model(), weights, "some weights");
    for (int i = 0; i < steps; ++i) {
      losses.push_back(reference.trainer().forward_backward().train_loss);
      gradients.push_back(gradients_in(reference.trainer()));
    }
  }
  for (const std::string dtype : {"float32", "bfloat16"}) {
    SCOPED_TRACE(dtype);
    const bool float32 = dtype == "float32";
    Run run({{"DTYPE", dtype}});
    EXPECT_EQ(run.trainer().runtime().cuda_graphs, on_cuda());
    load_state_dict(run.trainer().model(), weights, "some weights");
    expect_recordings_to_succeed([&] {
      for (int i = 0; i < steps; ++i) {
        SCOPED_TRACE(c10::str("step ", i + 1));
        const auto record = run.trainer().forward_backward();
        const auto got = gradients_in(run.trainer());
        const size_t step = static_cast<size_t>(i);
        // As in the model tests: rounding to 2^-24 or 2^-9, through two layers forward and backward.
        EXPECT_NEAR(record.train_loss, losses[step], (float32 ? 1e-5 : 3e-3) * losses[step]);
        ASSERT_EQ(names_of(got), names_of(gradients[step]));
        for (size_t k = 0; k < got.size(); ++k) {
          const double tolerance = (got[k].first.ends_with("q_gain") ? 4 : 1) * (float32 ? 5e-5 : 5e-2);
          EXPECT_LE(mean_error(got[k].second, gradients[step][k].second), tolerance) << got[k].first;
        }
      }
    });
  }
  EXPECT_GT(std::abs(losses[1] - losses[0]), 1e-3) << "every step has different tokens";
}

TEST_P(DeviceTrainer, AResumedRunEqualsAnUninterruptedOne) {
  for (const std::string dtype : {"float32", "bfloat16"}) {
    SCOPED_TRACE(dtype);
    // Four steps each, so that both parts replay recordings.
    const Variables settings{{"DTYPE", dtype},        {"ITERATIONS", "8"},     {"SAVE_EVERY", "4"},
                             {"VAL_LOSS_EVERY", "4"}, {"WARMDOWN_ITERS", "6"}, {"MUON_MOMENTUM_WARMUP_STEPS", "8"},
                             {"GRAD_CLIP_NORM", "1"}, {"RUN_ID", "eight"}};
    Trained expected;
    std::optional<Checkpoint> middle, end;
    {
      Run whole(settings);
      expected = train(whole);
      middle = whole.checkpoint(4);
      end = whole.checkpoint(8);
    }
    ASSERT_EQ(expected.steps.size(), 8u);
    expected.steps.erase(expected.steps.begin(), expected.steps.begin() + 4);
    expected.val_losses.erase(expected.val_losses.begin());

    Run continued(settings);
    continued.trainer().restore(*middle);
    const auto restored = on_cpu(continued.weights());
    for (size_t i = 0; i < restored.size(); ++i) {
      EXPECT_EQ("model." + restored[i].first, middle->tensors[i].first);
      EXPECT_TRUE(at::equal(restored[i].second, middle->tensors[i].second)) << restored[i].first;
    }
    expect_same(train(continued), expected, dtype);
    const auto again = continued.checkpoint(8);
    EXPECT_EQ(again.state.loader_file, end->state.loader_file);
    EXPECT_EQ(again.state.loader_position, end->state.loader_position);
    if (!on_cuda()) expect_same_tensors(again.tensors, end->tensors);
    if (on_cuda() && dtype == "float32") expect_near(again.tensors, end->tensors);
  }
}

TEST_P(DeviceTrainer, WarmUpLeavesNoTrace) {
  for (const std::string dtype : {"float32", "bfloat16"}) {
    SCOPED_TRACE(dtype);
    std::vector<Trained> runs;
    for (const char* steps : {"0", "3"}) {
      Run run({{"DTYPE", dtype}, {"WARMUP_STEPS", steps}, {"ITERATIONS", "4"}, {"WARMDOWN_ITERS", "4"}, {"VAL_LOSS_EVERY", "2"}});
      runs.push_back(train(run));
    }
    expect_same(runs[1], runs[0], dtype);
  }
}

TEST_P(DeviceTrainer, CudaGraphsChangeNothingInManySteps) {
  for (const std::string dtype : {"float32", "bfloat16"}) {
    for (const std::string optimizer : {"muon", "adamw"}) {
      SCOPED_TRACE(dtype + ", " + optimizer);
      std::vector<Trained> runs;
      for (const char* graphs : {"off", "auto"}) {
        // Learning rate and momentum change at every step, and gradients are clipped.
        Variables settings{
            {"DTYPE", dtype},       {"OPTIMIZER", optimizer}, {"CUDA_GRAPHS", graphs}, {"MICRO_BATCH_TOKENS", "32"},
            {"ITERATIONS", "10"},   {"WARMDOWN_ITERS", "10"}, {"WARMUP_STEPS", "2"},   {"GRAD_CLIP_NORM", "0.5"},
            {"VAL_LOSS_EVERY", "4"}};
        if (optimizer == "muon") {
          settings["MUON_MOMENTUM_WARMUP_STEPS"] = "10";
          settings["MUON_ROW_NORMALIZE"] = "1";
          settings["MUON_WD"] = settings["EMBED_WD"] = settings["ADAM_WD"] = "0.1";
          settings["EMA_DECAY"] = "0.8";
          // The recording is made again when the blocks run in another order.
          const Variables loops{{"NUM_LAYERS", "3"}, {"NUM_LOOPS", "2"},           {"LOOP_START", "0"},
                                {"LOOP_END", "1"},   {"ENABLE_LOOPING_AT", "0.3"}, {"LOOP_PHASE2_AT", "0.7"}};
          settings.insert(loops.begin(), loops.end());
        } else {
          // Adam's first steps are the learning rate times the gradient's sign, so large rates soon amplify rounding.
          settings["MATRIX_LR"] = settings["TIED_EMBED_LR"] = settings["SCALAR_LR"] = "0.004";
        }
        Run run(settings);
        EXPECT_EQ(run.trainer().runtime().cuda_graphs, on_cuda() && std::string(graphs) == "auto");
        runs.push_back(train(run));
      }
      ASSERT_EQ(runs[0].steps.size(), 10u);
      EXPECT_LT(runs[0].steps.back().train_loss, runs[0].steps.front().train_loss - 0.1);
      EXPECT_GT(runs[0].steps.front().grad_norm, 0.5) << "clipping has an effect";
      expect_same(runs[1], runs[0], dtype);
    }
  }
}

/// A model's loss on the run's validation tokens by the reference, in float32 on the CPU.
EvalResult score_by_definition(const fs::path& path, const RunConfig& config) {
  const ModelFile file = read_model_file(path);
  Gpt model = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
  EvalOptions options;
  options.seq_len = file.stored.train_seq_len;
  options.batch_sequences = config.data.val_batch_size / 8 / config.data.train_seq_len;
  return evaluate(model, ValidationSet(config.data.val_files(), options.seq_len, config.data.eval_tokens),
                  ByteCounts(Tokenizer(config.data.tokenizer_path), config.model.vocab_size), options);
}

TEST_P(DeviceTrainer, ValidationAndExportMatchTheFiles) {
  for (const std::string dtype : {"float32", "bfloat16"}) {
    SCOPED_TRACE(dtype);
    // Large enough that embedding and MLP are quantized.
    Run run({{"DTYPE", dtype},
             {"MODEL_DIM", "256"},
             {"NUM_HEADS", "4"},
             {"NUM_KV_HEADS", "2"},
             {"ROPE_DIMS", "16"},
             {"ITERATIONS", "3"},
             {"TIED_EMBED_LR", "0.01"},
             {"MATRIX_LR", "0.01"}});
    const auto trained = train(run);
    const double val_loss = run.trainer().validate()->val_loss;
    EXPECT_NEAR(val_loss, trained.val_losses.back(), on_cuda() ? 1e-4 : 0) << "the same weights again";
    ASSERT_EQ(export_model(run.trainer(), run.folder(), /*code_bytes=*/1234), ExitCode::ok);
    expect_same_tensors(read_model_file(run.folder().model()).state, trained.weights);
    const auto artifact = read_model_file(run.folder().artifact());
    expect_same_tensors(on_cpu(run.weights()), artifact.state);
    for (size_t i = 0; i < artifact.state.size(); ++i) {
      const auto& [name, stored] = artifact.state[i];
      if (name != "tok_emb.weight") continue;
      EXPECT_FALSE(at::equal(stored, trained.weights[i].second)) << "this one is quantized";
      // Half a step of the codes, which is 1/127 of a row's largest entry or of 1; the steps are stored as float16.
      const double largest = trained.weights[i].second.abs().max().to(at::kDouble).item<double>();
      EXPECT_LE(distance(stored, trained.weights[i].second), 0.55 / 127 * std::max(1.0, largest));
    }
    // Means over 512 tokens, of losses with errors of 2^-24 or 2^-9 times some ten.
    const double tolerance = dtype == "float32" ? 1e-5 : 3e-3;
    const auto& config = run.command().config;
    const auto model_score = score_by_definition(run.folder().model(), config),
               artifact_score = score_by_definition(run.folder().artifact(), config);
    EXPECT_NEAR(val_loss, model_score.val_loss, tolerance * model_score.val_loss);
    const auto final = read_metrics(run.folder().metrics()).back();
    ASSERT_EQ(final.at("kind"), "final");
    EXPECT_NEAR(final.at("val_loss").get<double>(), artifact_score.val_loss, tolerance * artifact_score.val_loss);
    EXPECT_EQ(final.at("bytes"), artifact_score.bytes);
    EXPECT_EQ(final.at("tokens"), artifact_score.tokens);
  }
}

PGOLF_ON_EVERY_DEVICE(DeviceTrainer);

}  // namespace
}  // namespace pgolf::testing::devices
