// Training checkpoints: a resumed run equals an uninterrupted one.
#include "pgolf/model_io/model_file.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

const Variables kSixSteps{{"ITERATIONS", "6"},
                          {"SAVE_EVERY", "3"},
                          {"VAL_LOSS_EVERY", "3"},
                          {"MUON_MOMENTUM_WARMUP_STEPS", "8"},
                          {"WARMDOWN_ITERS", "4"}};

void expect_same_state(const Checkpoint& actual, const Checkpoint& expected) {
  expect_same_tensors(actual.tensors, expected.tensors);
  EXPECT_EQ(actual.state.step, expected.state.step);
  EXPECT_EQ(actual.state.loader_file, expected.state.loader_file);
  EXPECT_EQ(actual.state.loader_position, expected.state.loader_position);
  EXPECT_EQ(actual.state.best_val_loss, expected.state.best_val_loss);
  EXPECT_EQ(actual.state.best_step, expected.state.best_step);
  EXPECT_EQ(actual.state.model, expected.state.model);
}

/// A run of six steps continued after the third.
void expect_same_when_resumed(const Variables& changes) {
  Variables settings = kSixSteps;
  settings["RUN_ID"] = "six";
  for (const auto& [name, value] : changes) settings[name] = value;
  TinyRun whole(settings), continued(settings);
  ASSERT_EQ(whole.train(), ExitCode::ok);
  // As left by a killed run: more lines than its last checkpoint covers, the last one truncated.
  std::string metrics = read_text(whole.folder().metrics());
  write_file(continued.folder().metrics(), metrics.substr(0, metrics.size() - 20));
  torch::rand(5);  // disturbs the generator
  continued.trainer().restore(whole.checkpoint(3));
  std::vector<int64_t> steps;
  continued.trainer().on_step = [&](const StepRecord& step) { steps.push_back(step.step); };
  ASSERT_EQ(continued.train(), ExitCode::ok);
  EXPECT_EQ(steps, (std::vector<int64_t>{4, 5, 6}));
  expect_same_tensors(continued.weights(), whole.weights());
  expect_same_state(continued.checkpoint(6), whole.checkpoint(6));
  EXPECT_EQ(without_times(read_metrics(continued.folder().metrics())), without_times(read_metrics(whole.folder().metrics())));
}

TEST(Resume, ResumesBitForBit) {
  expect_same_when_resumed({});
}

TEST(Resume, ResumesShuffledWindows) {
  // The third step ends in the second round over all windows.
  const int64_t batch = 8192, tokens = TokenStream(Dataset::get().data_path() + "/fineweb_train_*.bin").total_tokens();
  EXPECT_GT(3 * batch, tokens);
  EXPECT_LT(3 * batch, 2 * tokens - 100);
  expect_same_when_resumed({{"LOADER", "shuffled"}, {"TRAIN_BATCH_TOKENS", std::to_string(batch)}});
  TinyRun run({{"LOADER", "shuffled"}, {"SAVE_EVERY", "1"}}), again({{"LOADER", "shuffled"}, {"SAVE_EVERY", "1"}});
  run.train();
  Checkpoint of_two_processes = run.checkpoint(2);
  EXPECT_EQ(of_two_processes.state.loader_position, 2 * 8);
  of_two_processes.state.loader_position /= 2;
  expect_error(ExitCode::usage, {"8 windows", "16", "WORLD_SIZE"}, [&] { again.trainer().restore(of_two_processes); });
}

TEST(Resume, ResumesTheMeanOfTheWeights) {
  expect_same_when_resumed({{"EMA_DECAY", "0.8"}, {"MUON_WD", "0.1"}, {"EMBED_WD", "0.1"}, {"ADAM_WD", "0.1"}});
}

/// Four blocks; one extra pass over two of them after the second of six steps, two after the fourth.
const Variables kLoops{{"NUM_LAYERS", "4"},         {"NUM_LOOPS", "2"},           {"LOOP_START", "1"},      {"LOOP_END", "2"},
                       {"SKIP_GATES_ENABLED", "1"}, {"ENABLE_LOOPING_AT", "0.3"}, {"LOOP_PHASE2_AT", "0.6"}};

TEST(Resume, ResumesWithoutTheRotationThatWasDropped) {
  for (const char* at : {"0.3", "0.8"}) expect_same_when_resumed({{"ROPE_DIMS", "2"}, {"ROPE_DROP_AT", at}});  // before, after
  Variables settings = kSixSteps;
  settings["ROPE_DIMS"] = "2";
  settings["SAVE_EVERY"] = "1";
  settings["KEEP_LAST"] = "9";
  TinyRun rotating(settings);
  settings["ROPE_DROP_AT"] = "0.5";
  TinyRun run(settings);
  std::vector<double> kept, losses;
  rotating.trainer().on_step = [&](const StepRecord& step) { kept.push_back(step.train_loss); };
  run.trainer().on_step = [&](const StepRecord& step) { losses.push_back(step.train_loss); };
  rotating.train();
  run.train();
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(losses[i], kept[i]);
  EXPECT_NE(losses[3], kept[3]);
  EXPECT_EQ(run.trainer().model()->config().widest_rope().rope_dims, 0);
  EXPECT_EQ(run.trainer().metadata().at("ROPE_DIMS"), "none");
  // What is stored is the model as it runs: rotating up to the third step, and not after it.
  const auto ids = torch::arange(20).unsqueeze(0);
  for (const int step : {3, 6}) {
    const auto file = read_model_file(run.folder().checkpoints() / format("step_%08d.safetensors", step));
    EXPECT_EQ(file.stored.model.widest_rope().rope_dims, step == 3 ? 2 : 0);
    Gpt model = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
    torch::NoGradGuard no_grad;
    if (step == 6) {
      EXPECT_LE(distance(model->logits(ids), run.trainer().model()->logits(ids)), 1e-4);
    }
  }
}

TEST(Resume, ResumesLoopsWhereTheyWere) {
  expect_same_when_resumed(kLoops);
  Variables settings = kSixSteps;
  settings.insert(kLoops.begin(), kLoops.end());
  settings["SAVE_EVERY"] = "1";
  settings["KEEP_LAST"] = "9";
  TinyRun whole(settings);
  whole.train();
  const std::vector<int> passes{0, 0, 1, 1, 2, 2};
  for (int step = 1; step <= 6; ++step) {
    const Checkpoint checkpoint = whole.checkpoint(step);
    EXPECT_EQ(checkpoint.state.extra_passes, passes[static_cast<size_t>(step - 1)]) << "step " << step;
    // Evaluated as it was trained.
    const ModelFile file = read_model_file(checkpoint.path);
    EXPECT_EQ(build_model(file, at::kFloat, OpsPath::reference, at::kCPU)->extra_passes(), checkpoint.state.extra_passes);
    TinyRun continued(settings);
    continued.trainer().restore(checkpoint);
    EXPECT_EQ(continued.trainer().model()->extra_passes(), checkpoint.state.extra_passes);
    continued.train();
    expect_same_tensors(continued.weights(), whole.weights());
    if (step < 6) expect_same_state(continued.checkpoint(6), whole.checkpoint(6));
  }
  Checkpoint damaged = whole.checkpoint(6);
  damaged.state.extra_passes = 3;
  TinyRun other(settings);
  expect_error(ExitCode::bad_input, {"3 extra passes", "NUM_LOOPS=2"}, [&] { other.trainer().restore(damaged); });
}

TEST(Resume, AMissedValidationIsDoneOnResume) {
  TinyRun whole(kSixSteps), continued(kSixSteps);
  whole.train();
  // Killed right after the checkpoint of step 3, before the validation that follows it.
  std::string metrics;
  for (const auto& line : split(read_text(whole.folder().metrics()), '\n')) {
    metrics += line + "\n";
    if (line.find("\"step\":3") != std::string::npos) break;
  }
  write_file(continued.folder().metrics(), metrics);
  continued.trainer().restore(whole.checkpoint(3));
  continued.train();
  const auto actual = without_times(read_metrics(continued.folder().metrics())),
             expected = without_times(read_metrics(whole.folder().metrics()));
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 1; i < actual.size(); ++i) EXPECT_EQ(actual[i], expected[i]);
}

TEST(Resume, RememberTheBestValidation) {
  // With these rates step 0 or 3 may be the best, and the checkpoint of step 3 was written before its validation.
  Variables settings = kSixSteps;
  settings["MATRIX_LR"] = settings["SCALAR_LR"] = settings["TIED_EMBED_LR"] = "3";
  settings["SAVE_EVERY"] = "1";
  settings["KEEP_LAST"] = "9";
  settings["VAL_LOSS_EVERY"] = "1";
  TinyRun whole(settings);
  whole.train();
  for (const int step : {1, 2, 3, 4, 5}) {
    TinyRun continued(settings);
    continued.trainer().restore(whole.checkpoint(step));
    continued.train();
    EXPECT_EQ(continued.checkpoint(6).state.best_step, whole.checkpoint(6).state.best_step) << "continued from step " << step;
    EXPECT_EQ(continued.checkpoint(6).state.best_val_loss, whole.checkpoint(6).state.best_val_loss);
  }
}

TEST(Resume, AFinishedRunOnlyMeasuresAgain) {
  TinyRun whole(kSixSteps), again(kSixSteps);
  whole.train();
  again.trainer().restore(whole.checkpoint(6));
  EXPECT_EQ(again.train(), ExitCode::ok);
  expect_same_tensors(again.weights(), whole.weights());
  const auto lines = read_metrics(again.folder().metrics());
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].at("kind"), "run");
  const auto all = read_metrics(whole.folder().metrics());
  EXPECT_EQ(lines[1].at("val_loss"), all[all.size() - 2].at("val_loss"));
  EXPECT_EQ(lines[2].at("kind"), "end");
}

TEST(Resume, WithoutTimeLeftNoStepIsMade) {
  Variables settings = kSixSteps;
  settings["MAX_WALLCLOCK_SECONDS"] = "1000";
  TinyRun whole(settings), again(settings);
  whole.train();
  Checkpoint used_up = whole.checkpoint(3);
  used_up.state.training_time_ms = 1000e3;
  again.trainer().restore(used_up);
  again.trainer().on_step = [](const StepRecord&) { FAIL() << "a step"; };
  EXPECT_EQ(again.train(), ExitCode::ok);
}

TEST(Resume, OtherShardsAreRefusedUnlessAllowed) {
  const TempFolder folder;
  const auto copy = [&](const char* name) {
    const auto to = folder / name;
    std::filesystem::copy(Dataset::get().data_path(), to, std::filesystem::copy_options::recursive);
    return to;
  };
  TinyRun whole(kSixSteps);
  whole.train();
  const auto restored = [&](const std::filesystem::path& data, const char* allow) {
    Variables settings = kSixSteps;
    settings["DATA_PATH"] = data.string();
    settings["ALLOW_OTHER_DATA"] = allow;
    TinyRun run(settings);
    run.trainer().restore(whole.checkpoint(3));
    return run.train();
  };
  EXPECT_EQ(restored(copy("moved"), "0"), ExitCode::ok);

  const auto other = copy("other");
  for (const auto& entry : std::filesystem::directory_iterator(other)) {
    if (entry.path().filename().string().starts_with("fineweb_train_")) {
      std::string bytes = read_text(entry.path());
      std::swap(bytes[kShardHeaderBytes + 20], bytes[kShardHeaderBytes + 40]);
      write_file(entry.path(), bytes);
    }
  }
  expect_error(ExitCode::usage, {"other shards", "first_shard", "--allow-other-data", "step_00000003"},
               [&] { restored(other, "0"); });
  EXPECT_EQ(restored(other, "1"), ExitCode::ok);

  const auto scored = copy("scored_on");
  fs::copy(scored / "fineweb_val_000000.bin", scored / "fineweb_val_000001.bin");
  expect_error(ExitCode::usage, {"other shards", "validation_tokens", "--allow-other-data"}, [&] { restored(scored, "0"); });

  const auto shorter = copy("shorter");
  for (const auto& entry : std::filesystem::directory_iterator(shorter)) {
    if (entry.path().filename().string().starts_with("fineweb_train_")) {
      ShardWriter shard(entry.path());
      shard.append(std::vector<uint16_t>(40, 7));
      shard.commit();
    }
  }
  expect_error(ExitCode::usage, {"tokens", "--allow-other-data"}, [&] { restored(shorter, "0"); });
  EXPECT_EQ(restored(shorter, "1"), ExitCode::ok) << "it begins at their start";
}

TEST(Resume, OtherSettingsAreNamedWithBothValues) {
  TinyRun whole({{"SAVE_EVERY", "1"}});
  whole.train();
  TinyRun other({{"SAVE_EVERY", "1"}, {"MATRIX_LR", "0.07"}, {"ROPE_DIMS", "4"}});
  const StateDict before = other.weights();
  expect_error(ExitCode::usage, {"MATRIX_LR", "0.04", "0.07", "ROPE_DIMS", "full", "this run has 4", "step_00000001.safetensors"},
               [&] { other.trainer().restore(whole.checkpoint(1)); });
  expect_same_tensors(other.weights(), before);
  TinyRun harmless({{"TRAIN_LOG_EVERY", "1"}, {"KEEP_LAST", "5"}, {"RUN_ID", "elsewhere"}});
  EXPECT_NO_THROW(harmless.trainer().restore(whole.checkpoint(1)));
}

TEST(Resume, ACheckpointWithOtherTensorsIsRefused) {
  TinyRun run({{"SAVE_EVERY", "1"}}), target;
  run.train();
  const Checkpoint good = run.checkpoint(1);
  Checkpoint fewer = good, renamed = good, reshaped = good, retyped = good;
  fewer.tensors.pop_back();
  renamed.tensors[2].first = "model.something";
  reshaped.tensors[2].second = torch::zeros({5});
  retyped.tensors[2].second = good.tensors[2].second.to(at::kDouble);
  expect_error(ExitCode::bad_input, {good.path.string(), "a different number of tensors"},
               [&] { target.trainer().restore(fewer); });
  expect_error(ExitCode::bad_input, {good.path.string(), "model.something"}, [&] { target.trainer().restore(renamed); });
  for (const auto& bad : {reshaped, retyped}) {
    expect_error(ExitCode::bad_input, {good.path.string(), good.tensors[2].first}, [&] { target.trainer().restore(bad); });
  }
}

TEST(Checkpoints, ADamagedNewestFallsBackWithAWarning) {
  TinyRun run({{"SAVE_EVERY", "1"}});
  run.train();
  const auto newest = list_checkpoints(run.folder().checkpoints()).back();
  const std::string whole = read_text(newest);
  const auto expect_fallback = [&](const char* what) {
    ::testing::internal::CaptureStderr();
    const auto checkpoint = load_newest_checkpoint(run.folder().checkpoints());
    const std::string warning = ::testing::internal::GetCapturedStderr();
    ASSERT_TRUE(checkpoint.has_value()) << what;
    EXPECT_EQ(checkpoint->state.step, 1) << what;
    EXPECT_EQ(warning.rfind("warning: ", 0), 0u) << what << ": " << warning;
    EXPECT_NE(warning.find(newest.string()), std::string::npos) << what << ": " << warning;
  };
  damage_file(newest);
  expect_fallback("a changed byte");
  for (const size_t size : {size_t{0}, size_t{4}, size_t{300}, whole.size() / 2, whole.size() - 1}) {
    write_file(newest, whole.substr(0, size));
    expect_fallback("a truncated file");
  }
  write_file(newest, whole);
  EXPECT_EQ(load_newest_checkpoint(run.folder().checkpoints())->state.step, 2);
}

TEST(Checkpoints, OnlyDamagedOnesAreAnErrorAndNoneIsEmpty) {
  TinyRun run({{"SAVE_EVERY", "1"}});
  EXPECT_FALSE(load_newest_checkpoint(run.folder().checkpoints()).has_value());
  run.train();
  for (const auto& path : list_checkpoints(run.folder().checkpoints())) damage_file(path);
  ::testing::internal::CaptureStderr();
  expect_error(ExitCode::bad_input, {run.folder().checkpoints().string(), "none of the 2"},
               [&] { load_newest_checkpoint(run.folder().checkpoints()); });
  ::testing::internal::GetCapturedStderr();
}

TEST(Checkpoints, HoldEverythingARunNeeds) {
  TinyRun run({{"SAVE_EVERY", "1"}, {"ROPE_DIMS", "4"}});
  run.train();
  const auto checkpoint = run.checkpoint(2);
  EXPECT_EQ(checkpoint.state.config.at("ROPE_DIMS"), "4");
  EXPECT_EQ(checkpoint.state.model.at("ROPE_DIMS"), "4");
  EXPECT_EQ(checkpoint.state.model.at("TRAIN_SEQ_LEN"), "16");
  EXPECT_GT(checkpoint.state.training_time_ms, 0);
  EXPECT_EQ(checkpoint.state.loader_file, 0);
  EXPECT_EQ(checkpoint.state.loader_position, 2 * 8 * (16 + 1));
  std::map<std::string, int> kinds;
  for (const auto& [name, tensor] : checkpoint.tensors) ++kinds[name.substr(0, name.find('.'))];
  EXPECT_EQ(kinds["model"], 22);
  EXPECT_EQ(kinds["muon"], 12);
  EXPECT_EQ(kinds["adam"], 3 * 10);
  EXPECT_EQ(kinds["generator"], 1);
}

}  // namespace
}  // namespace pgolf::testing
