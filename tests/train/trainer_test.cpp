// The training loop in a single process: what it learns, writes, keeps and rejects.
#include <torch/cuda.h>

#include "pgolf/base/log.h"
#include "pgolf/base/version.h"
#include "pgolf/data/shuffled_loader.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/train/estimate.h"
#include "pgolf/train/export.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

TEST(Trainer, LossFallsAndEveryStepIsRecorded) {
  TinyRun run({{"ITERATIONS", "10"}, {"VAL_LOSS_EVERY", "5"}, {"MUON_MOMENTUM_WARMUP_STEPS", "10"}, {"WARMDOWN_ITERS", "4"}});
  std::vector<StepRecord> steps;
  run.trainer().on_step = [&](const StepRecord& step) { steps.push_back(step); };
  ASSERT_EQ(run.train(), ExitCode::ok);
  ASSERT_EQ(steps.size(), 10u);
  const auto lines = read_metrics(run.folder().metrics());
  EXPECT_EQ(lines[0].at("kind"), "run");
  EXPECT_EQ(lines[0].at("run_id"), "run") << "the folder's name";
  EXPECT_EQ(lines[0].at("rope_layers"), "same");
  EXPECT_EQ(lines[0].at("version"), program_version());
  EXPECT_EQ(lines[0].at("parameters"), run.command().config.model.parameter_count());
  EXPECT_EQ(lines[0].at("rope_dims"), 16);
  EXPECT_EQ(lines[0].at("config").at("NUM_LAYERS"), "2");
  EXPECT_EQ(count_kind(lines, "run"), 1);
  std::vector<int> val_steps;
  std::vector<double> val_losses;
  size_t trained = 0;
  for (const auto& line : lines) {
    if (line.at("kind") == "val") {
      val_steps.push_back(line.at("step"));
      val_losses.push_back(line.at("val_loss"));
      EXPECT_EQ(line.at("tokens"), 512);
      EXPECT_NEAR(line.at("val_bpb").get<double>(), val_losses.back() / std::log(2.0) * 512 / line.at("bytes").get<double>(),
                  1e-9);
    } else if (line.at("kind") == "train") {
      ASSERT_LT(trained, steps.size());
      const StepRecord& step = steps[trained++];
      EXPECT_EQ(line.at("step"), step.step);
      EXPECT_EQ(line.at("step"), trained);
      EXPECT_EQ(line.at("train_loss"), step.train_loss);
      EXPECT_EQ(line.at("lr_scale"), step.lr_scale);
      EXPECT_EQ(line.at("muon_momentum"), step.muon_momentum);
      EXPECT_EQ(line.at("grad_norm"), step.grad_norm);
      EXPECT_EQ(line.at("tokens"), 128 * step.step);
      EXPECT_GT(line.at("train_time_ms").get<double>(), 0);
    }
  }
  EXPECT_EQ(trained, 10u);
  EXPECT_EQ(val_steps, (std::vector<int>{0, 5, 10}));
  EXPECT_NEAR(val_losses.front(), std::log(320.0), 0.1) << "an untrained model";
  EXPECT_LT(val_losses.back(), val_losses.front() - 0.5);
  EXPECT_LT(steps.back().train_loss, steps.front().train_loss - 0.5);
  EXPECT_DOUBLE_EQ(steps[0].muon_momentum, 0.85);
  EXPECT_NEAR(steps[5].muon_momentum, 0.90, 1e-12);
  EXPECT_DOUBLE_EQ(steps[6].lr_scale, 1.0);
  EXPECT_DOUBLE_EQ(steps[9].lr_scale, 0.25);
}

TEST(Trainer, CudaGraphsNeedAGpu) {
  if (torch::cuda::is_available()) GTEST_SKIP() << "a CUDA device is available";
  try {
    TinyRun({{"CUDA_GRAPHS", "on"}});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::unavailable);
    EXPECT_STREQ(error.what(), "CUDA_GRAPHS=on needs a CUDA device");
  }
  TinyRun run({{"CUDA_GRAPHS", "auto"}});
  EXPECT_FALSE(run.trainer().runtime().cuda_graphs);
}

TEST(Trainer, CudaGraphsChangeNothing) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  std::vector<std::vector<StepRecord>> runs;
  for (const char* graphs : {"off", "on"}) {
    // Learning rate and momentum change at every step: a recording must not keep those it was made with.
    TinyRun run({{"DEVICE", "cuda"},
                 {"DTYPE", "bfloat16"},
                 {"CUDA_GRAPHS", graphs},
                 {"ITERATIONS", "12"},
                 {"WARMDOWN_ITERS", "12"},
                 {"GRAD_CLIP_NORM", "1"},
                 {"VAL_LOSS_EVERY", "4"},
                 {"MUON_MOMENTUM_WARMUP_STEPS", "10"}});
    runs.emplace_back();
    run.trainer().on_step = [&](const StepRecord& step) { runs.back().push_back(step); };
    ASSERT_EQ(run.train(), ExitCode::ok);
  }
  ASSERT_EQ(runs[0].size(), 12u);
  // bfloat16, and sums of embedding gradients in any order.
  for (size_t i = 0; i < 12; ++i) EXPECT_NEAR(runs[0][i].train_loss, runs[1][i].train_loss, 1e-2) << "step " << i + 1;
}

TEST(Trainer, AStepIsTheMeanOfItsMicroSteps) {
  TinyRun run({{"MICRO_BATCH_TOKENS", "16"}});
  const StepRecord step = run.trainer().forward_backward();
  ASSERT_EQ(step.micro_losses.size(), 8u);
  double sum = 0;
  for (const double loss : step.micro_losses) sum += loss;
  EXPECT_NEAR(step.train_loss, sum / 8, 1e-6);
  for (const auto& item : run.trainer().model()->named_parameters()) EXPECT_TRUE(item.value().grad().defined()) << item.key();
}

StateDict gradients_of(Trainer& trainer) {
  StateDict gradients;
  for (const auto& item : trainer.model()->named_parameters()) gradients.emplace_back(item.key(), item.value().grad());
  return gradients;
}

/// Up to the order of float32 sums.
void expect_close(const StateDict& got, const StateDict& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double largest = expected[i].second.abs().max().item<double>();
    EXPECT_LE((got[i].second - expected[i].second).abs().max().item<double>(), 1e-5 * largest) << got[i].first;
  }
}

TEST(Trainer, MicroBatchesDoNotChangeGradients) {
  TinyRun one_by_one({{"MICRO_BATCH_TOKENS", "16"}});
  const double loss = one_by_one.trainer().forward_backward().train_loss;
  const auto expected = gradients_of(one_by_one.trainer());
  struct Case {
    const char *tokens, *parallel, *threads;
    size_t micro_batches;
  };
  for (const auto& c : {Case{"32", "1", "1", 4}, Case{"128", "1", "2", 1}, Case{"0", "0", "1", 1}, Case{"16", "2", "2", 8},
                        Case{"0", "2", "2", 2}, Case{"0", "0", "2", 2}, Case{"16", "8", "3", 8}, Case{"0", "0", "3", 2},
                        Case{"128", "0", "2", 1}, Case{"32", "0", "2", 4}}) {
    SCOPED_TRACE(format("MICRO_BATCH_TOKENS=%s PARALLEL_PASSES=%s NUM_THREADS=%s", c.tokens, c.parallel, c.threads));
    TinyRun run({{"MICRO_BATCH_TOKENS", c.tokens}, {"PARALLEL_PASSES", c.parallel}, {"NUM_THREADS", c.threads}});
    const StepRecord step = run.trainer().forward_backward();
    EXPECT_EQ(step.micro_losses.size(), c.micro_batches);
    EXPECT_NEAR(step.train_loss, loss, 1e-6);
    expect_close(gradients_of(run.trainer()), expected);
  }
  TinyRun reference({{"OPS", "reference"}, {"NUM_THREADS", "2"}});
  EXPECT_EQ(reference.trainer().forward_backward().micro_losses.size(), 8u) << "as upstream";
}

TEST(Trainer, MicroBatchesAreWholeShuffledWindows) {
  const auto batches_of = [](const char* tokens) {
    const TrainCommand command =
        tiny_command({{"LOADER", "shuffled"}, {"MICRO_BATCH_TOKENS", tokens}, {"TRAIN_BATCH_TOKENS", "256"}});
    return std::make_unique<MicroBatches>(command.config, start_runtime(command.config.runtime), Process());
  };
  const auto alone = batches_of("32"), together = batches_of("128");
  ShuffledLoader loader(Dataset::get().data_path() + "/fineweb_train_*.bin", 16, 0, 1);
  for (int step = 0; step < 3; ++step) {
    alone->load();
    together->load();
    for (int64_t i = 0; i < 8; ++i) {
      const auto chunk = loader.next(256, 8);
      const auto tokens = torch::tensor(std::vector<int64_t>(chunk.begin(), chunk.end())).view({2, 17});
      const auto expect_windows = [&](const at::Tensor& got, int64_t from) {
        EXPECT_TRUE(at::equal(got, tokens.narrow(1, from, 16)));
      };
      expect_windows(alone->get(i).inputs, 0);
      expect_windows(alone->get(i).targets, 1);
      expect_windows(together->get(i / 4).inputs.narrow(0, i % 4 * 2, 2), 0);
      expect_windows(together->get(i / 4).targets.narrow(0, i % 4 * 2, 2), 1);
    }
  }
}

TEST(Trainer, ParallelMicroBatchesSeeEveryUpdate) {
  std::vector<std::vector<double>> losses;
  for (const char* parallel : {"1", "2"}) {
    TinyRun run({{"ITERATIONS", "8"}, {"PARALLEL_PASSES", parallel}, {"MICRO_BATCH_TOKENS", "32"}, {"NUM_THREADS", "2"}});
    losses.emplace_back();
    run.trainer().on_step = [&](const StepRecord& step) { losses.back().push_back(step.train_loss); };
    ASSERT_EQ(run.train(), ExitCode::ok);
  }
  ASSERT_EQ(losses[0].size(), 8u);
  EXPECT_LT(losses[0].back(), losses[0].front() - 0.3);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(losses[1][i], losses[0][i], 1e-4) << "step " << i + 1;
}

TEST(Trainer, ParallelMicroBatchesNeedTheFastPathOnTheCpu) {
  try {
    TinyRun({{"PARALLEL_PASSES", "2"}, {"OPS", "reference"}});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find("PARALLEL_PASSES=2 needs OPS=fast on the CPU"), std::string::npos) << error.what();
  }
}

TEST(Trainer, TheSameSettingsGiveTheSameWeights) {
  const auto weights_of = [](const Variables& changes) {
    TinyRun run(changes);
    run.train();
    return run.weights();
  };
  const StateDict weights = weights_of({});
  expect_same_tensors(weights_of({}), weights);
  EXPECT_FALSE(at::equal(weights_of({{"SEED", "1"}})[1].second, weights[1].second));
  EXPECT_FALSE(at::equal(weights_of({{"ROPE_DIMS", "4"}})[1].second, weights[1].second));
}

TEST(Trainer, WarmUpLeavesNoTrace) {
  TinyRun warm({{"WARMUP_STEPS", "3"}, {"SAVE_EVERY", "1"}}), cold({{"SAVE_EVERY", "1"}});
  warm.train();
  cold.train();
  for (const int step : {1, 2}) {
    const auto after_warm_up = warm.checkpoint(step), without = cold.checkpoint(step);
    expect_same_tensors(after_warm_up.tensors, without.tensors);
    EXPECT_EQ(after_warm_up.state.loader_file, without.state.loader_file);
    EXPECT_EQ(after_warm_up.state.loader_position, without.state.loader_position);
  }
  EXPECT_EQ(without_times(read_metrics(warm.folder().metrics())).back(),
            without_times(read_metrics(cold.folder().metrics())).back());
}

TEST(Trainer, TheMeanOfTheWeightsBecomesTheModel) {
  TinyRun plain({{"ITERATIONS", "4"}, {"VAL_LOSS_EVERY", "2"}}),
      run({{"ITERATIONS", "4"}, {"VAL_LOSS_EVERY", "2"}, {"WARMUP_STEPS", "1"}, {"EMA_DECAY", "0.75"}});
  plain.train();
  std::vector<at::Tensor> mean;
  for (const auto& [name, tensor] : run.weights()) mean.push_back(tensor.to(at::kDouble));
  run.trainer().on_step = [&](const StepRecord&) {
    const StateDict weights = run.weights();
    for (size_t i = 0; i < mean.size(); ++i) mean[i] = 0.75 * mean[i] + 0.25 * weights[i].second.to(at::kDouble);
  };
  ASSERT_EQ(run.train(), ExitCode::ok);
  const StateDict weights = run.weights();
  for (size_t i = 0; i < mean.size(); ++i) EXPECT_LE(distance(weights[i].second, mean[i]), 1e-6) << weights[i].first;
  // Training itself, and the validations during it, are of the weights as they are.
  auto lines = without_times(read_metrics(run.folder().metrics())),
       expected = without_times(read_metrics(plain.folder().metrics()));
  ASSERT_EQ(lines.size(), expected.size() + 1);
  const auto score = lines.back();
  for (size_t i = 1; i < expected.size(); ++i) EXPECT_EQ(lines[i], expected[i]);
  const EvalResult again = *run.trainer().validate();
  EXPECT_EQ(score.at("kind"), "score");
  EXPECT_EQ(score.at("name"), "post_ema");
  EXPECT_EQ(score.at("val_loss"), again.val_loss);
  EXPECT_EQ(score.at("val_bpb"), again.val_bpb);
  EXPECT_NE(again.val_loss, plain.trainer().validate()->val_loss);
  export_model(run.trainer(), run.folder(), 0);
  expect_same_tensors(read_model_file(run.folder().model()).state, weights);
}

TEST(Estimate, CountsTheMeanOfTheWeights) {
  const auto optimizer_bytes = [](const char* decay) {
    const RunConfig config = tiny_command({{"EMA_DECAY", decay}}).config;
    const RunEstimate estimate = estimate_run(config, /*bfloat16=*/true, 1, {8, 1});
    EXPECT_EQ(estimate.parameters, config.model.parameter_count());
    return estimate.optimizer_bytes;
  };
  EXPECT_EQ(optimizer_bytes("0.9"), optimizer_bytes("0") + 4 * tiny_command().config.model.parameter_count());
}

TEST(Trainer, LoopsAreSwitchedOnInEveryReplica) {
  std::vector<std::vector<double>> losses;
  std::vector<std::vector<int>> passes;
  for (const char* parallel : {"1", "2"}) {
    for (const char* warmup_steps : {"0", "1"}) {
      TinyRun run({{"ITERATIONS", "8"},
                   {"PARALLEL_PASSES", parallel},
                   {"MICRO_BATCH_TOKENS", "32"},
                   {"NUM_THREADS", "2"},
                   {"NUM_LAYERS", "3"},
                   {"NUM_LOOPS", "2"},
                   {"LOOP_START", "0"},
                   {"LOOP_END", "1"},
                   {"ENABLE_LOOPING_AT", "0.25"},
                   {"LOOP_PHASE2_AT", "0.5"},
                   {"WARMUP_STEPS", warmup_steps}});
      EXPECT_EQ(run.trainer().model()->extra_passes(), 0);
      losses.emplace_back();
      passes.emplace_back();
      run.trainer().on_step = [&](const StepRecord& step) {
        losses.back().push_back(step.train_loss);
        passes.back().push_back(run.trainer().model()->extra_passes());
      };
      ASSERT_EQ(run.train(), ExitCode::ok);
    }
  }
  for (size_t run = 0; run < losses.size(); ++run) {
    EXPECT_EQ(passes[run], (std::vector<int>{0, 0, 1, 1, 2, 2, 2, 2}));
    for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(losses[run][i], losses[0][i], 1e-4) << "run " << run << ", step " << i + 1;
  }
  EXPECT_EQ(losses[1], losses[0]) << "warming up leaves no trace";
}

TEST(Trainer, OnlyTheNewestCheckpointsAreKept) {
  TinyRun run({{"ITERATIONS", "5"}, {"SAVE_EVERY", "1"}, {"KEEP_LAST", "3"}});
  run.train();
  EXPECT_EQ(names_in(run.folder().checkpoints()),
            (std::vector<std::string>{"step_00000003.safetensors", "step_00000004.safetensors", "step_00000005.safetensors"}));
}

TEST(Trainer, WithoutSaveEveryNoCheckpointIsWritten) {
  TinyRun run;
  run.train();
  EXPECT_TRUE(list_checkpoints(run.folder().checkpoints()).empty());
}

TEST(Trainer, TheGradientNormIsMeasuredBeforeClipping) {
  TinyRun run({{"GRAD_CLIP_NORM", "0.001"}});
  StepRecord record = run.trainer().forward_backward();
  double squares = 0;
  for (const auto& parameter : run.trainer().model()->parameters()) squares += parameter.grad().square().sum().item<double>();
  run.trainer().apply_gradients(&record, 0);
  EXPECT_NEAR(record.grad_norm, std::sqrt(squares), 1e-5 * std::sqrt(squares));
  EXPECT_GT(record.grad_norm, 0.1);
}

TEST(Trainer, TheWallClockCapStopsEarly) {
  TinyRun run({{"ITERATIONS", "1000000"}, {"MAX_WALLCLOCK_SECONDS", "0.1"}});
  log::open_log_file(run.folder().log());
  EXPECT_EQ(run.train(), ExitCode::ok);
  log::close_log_file();
  const std::string log = read_text(run.folder().log());
  EXPECT_NE(log.find("stopping_early: wallclock_cap train_time:"), std::string::npos) << log;
  const auto lines = read_metrics(run.folder().metrics());
  const int steps = count_kind(lines, "train");
  EXPECT_GE(steps, 1);
  EXPECT_LT(steps, 1'000'000);
  EXPECT_EQ(lines[lines.size() - 2].at("kind"), "val") << "the last step is validated even then";
  EXPECT_EQ(lines[lines.size() - 2].at("step"), steps);
  EXPECT_EQ(lines.back().at("kind"), "end");
  EXPECT_EQ(lines.back().at("step"), steps);
  EXPECT_GT(lines.back().at("peak_allocated_bytes").get<int64_t>(), 1 << 20);
  EXPECT_EQ(lines.back().at("rope_table_bytes"), 2 * 16 * 8 * 4) << "cos and sin, 16 positions, 8 pairs, float32";
  EXPECT_GE(lines.back().at("train_time_ms").get<double>(), 100);
}

TEST(Trainer, ANonFiniteLossStopsBeforeTheUpdate) {
  TinyRun run({{"ITERATIONS", "6"}, {"SAVE_EVERY", "2"}});
  StateDict before;
  run.trainer().on_step = [&](const StepRecord& step) {
    if (step.step != 3) return;
    torch::NoGradGuard no_grad;
    run.trainer().model()->blocks[1]->attn->q_gain.fill_(std::nan(""));
    before = run.weights();
  };
  expect_error(ExitCode::non_finite, {"train_loss is nan", "step 4", "SAVE_EVERY"}, [&] { run.train(); });
  const StateDict after = run.weights();
  for (size_t i = 0; i < after.size(); ++i) {
    if (after[i].first != "blocks.1.attn.q_gain") {
      EXPECT_TRUE(at::equal(after[i].second, before[i].second)) << after[i].first;
    }
  }
  EXPECT_EQ(list_checkpoints(run.folder().checkpoints()).size(), 1u);
  for (const auto& [name, tensor] : run.checkpoint(2).tensors) EXPECT_TRUE(at::isfinite(tensor).all().item<bool>()) << name;
  EXPECT_EQ(count_kind(read_metrics(run.folder().metrics()), "train"), 3);
}

TEST(Trainer, DeterministicUsesLibTorchsDeterministicAlgorithms) {
  auto& context = at::globalContext();
  ASSERT_FALSE(context.deterministicAlgorithms());
  TinyRun plain({{"ITERATIONS", "2"}}), deterministic({{"ITERATIONS", "2"}, {"DETERMINISTIC", "1"}});
  EXPECT_TRUE(context.deterministicAlgorithms());
  ASSERT_EQ(deterministic.train(), ExitCode::ok) << "every operation of a step has a deterministic algorithm";
  context.setDeterministicAlgorithms(false, /*warn_only=*/false);
  ASSERT_EQ(plain.train(), ExitCode::ok);
  expect_same_tensors(deterministic.weights(), plain.weights());
}

TEST(Trainer, ANonFiniteGradientIsNamedBeforeTheUpdate) {
  for (const float poison : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    TinyRun run({{"GRAD_CLIP_NORM", "1"}});
    const StateDict before = run.weights();
    run.trainer().model()->blocks[1]->attn->q_gain.register_hook(
        [poison](const at::Tensor& gradient) { return gradient * poison; });
    StepRecord step = run.trainer().forward_backward();
    EXPECT_TRUE(std::isfinite(step.train_loss));
    expect_error(ExitCode::non_finite, {"blocks.1.attn.q_gain", "step 1"}, [&] { run.trainer().apply_gradients(&step, 0); });
    expect_same_tensors(run.weights(), before);
  }
}

/// The file's loss on the run's validation tokens, with the run's batch size.
EvalResult score_file(const fs::path& path, const RunConfig& config) {
  const ModelFile file = read_model_file(path);
  Gpt model = build_model(file, at::kFloat, config.runtime.ops, at::kCPU);
  const Tokenizer tokenizer(config.data.tokenizer_path);
  EvalOptions options;
  options.seq_len = file.stored.train_seq_len;
  options.batch_sequences = config.data.val_batch_size / 8 / config.data.train_seq_len;
  return evaluate(model, ValidationSet(config.data.val_files(), options.seq_len, config.data.eval_tokens),
                  ByteCounts(tokenizer, config.model.vocab_size), options);
}

TEST(Export, BothFilesScoreWhatTheRunLogged) {
  TinyRun run({{"ITERATIONS", "4"}, {"ROPE_DIMS", "6"}, {"LOGIT_SOFTCAP", "25"}});
  ASSERT_EQ(run.train(), ExitCode::ok);
  const StateDict weights = run.weights();
  ASSERT_EQ(export_model(run.trainer(), run.folder(), /*code_bytes=*/1234), ExitCode::ok);
  const auto lines = read_metrics(run.folder().metrics());
  const auto& config = run.command().config;
  expect_same_tensors(read_model_file(run.folder().model()).state, weights);
  const auto val = *std::find_if(lines.rbegin(), lines.rend(), [](const auto& line) { return line.at("kind") == "val"; });
  const auto model = score_file(run.folder().model(), config), artifact = score_file(run.folder().artifact(), config);
  EXPECT_EQ(val.at("step"), 4);
  EXPECT_DOUBLE_EQ(model.val_loss, val.at("val_loss").get<double>());
  EXPECT_DOUBLE_EQ(model.val_bpb, val.at("val_bpb").get<double>());
  const auto& final = lines.back();
  EXPECT_EQ(final.at("kind"), "final");
  EXPECT_DOUBLE_EQ(artifact.val_loss, final.at("val_loss").get<double>());
  EXPECT_DOUBLE_EQ(artifact.val_bpb, final.at("val_bpb").get<double>());
  EXPECT_EQ(artifact.bytes, final.at("bytes"));
  EXPECT_EQ(final.at("model_bytes"), fs::file_size(run.folder().model()));
  EXPECT_EQ(final.at("artifact_bytes"), fs::file_size(run.folder().artifact()));
  EXPECT_EQ(final.at("code_bytes"), 1234);
  EXPECT_EQ(final.at("margin_bytes"), 16'000'000 - 1234 - static_cast<int64_t>(fs::file_size(run.folder().artifact())));
  EXPECT_EQ(final.at("rope_dims"), 6);
  EXPECT_NE(artifact.val_loss, model.val_loss) << "quantization has an effect";
  EXPECT_NEAR(artifact.val_loss, model.val_loss, 0.05);
  for (const auto& path : {run.folder().model(), run.folder().artifact()}) {
    EXPECT_EQ(read_model_file(path).stored.model.widest_rope().rope_dims, 6);
    EXPECT_EQ(read_model_file(path).stored.model.logit_softcap, 25);
    EXPECT_TRUE(read_model_file(path).assumed.empty());
  }
}

TEST(Export, AnyCompressorHoldsTheSameModel) {
  StateDict expected;
  for (const char* codec : {"zlib", "lzma", "brotli"}) {
    TinyRun other({{"ITERATIONS", "1"}, {"COMPRESSOR", codec}});
    ASSERT_EQ(other.train(), ExitCode::ok);
    ::testing::internal::CaptureStdout();
    ASSERT_EQ(export_model(other.trainer(), other.folder(), 500), ExitCode::ok);
    EXPECT_NE(::testing::internal::GetCapturedStdout().find(std::string("final_int8_") + codec + "_roundtrip_exact val_loss:"),
              std::string::npos);
    const ModelFile file = read_model_file(other.folder().artifact());
    EXPECT_EQ(format_text(file.format), std::string("int8+") + codec);
    if (expected.empty()) expected = file.state;
    expect_same_tensors(file.state, expected);
  }
}

TEST(Export, OverBudgetWarnsAndKeepsTheFiles) {
  TinyRun run({{"BUDGET_BYTES", "2000"}, {"ITERATIONS", "1"}});
  run.train();
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(export_model(run.trainer(), run.folder(), 500), ExitCode::over_budget);
  const std::string warning = ::testing::internal::GetCapturedStderr();
  const auto over = static_cast<int64_t>(fs::file_size(run.folder().artifact())) + 500 - 2000;
  EXPECT_NE(warning.find(format("over budget by %lld bytes", static_cast<long long>(over))), std::string::npos) << warning;
  EXPECT_TRUE(fs::exists(run.folder().model()));
  EXPECT_EQ(read_metrics(run.folder().metrics()).back().at("margin_bytes"), -over);
}

}  // namespace
}  // namespace pgolf::testing
