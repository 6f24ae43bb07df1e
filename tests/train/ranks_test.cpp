// The training loop in a job of several processes; tests/ranks.py has what is seen from outside.
#include "support/ranks.h"

#include <limits>

#include "../../src/train/gradient_average.h"
#include "pgolf/data/shuffled_loader.h"
#include "pgolf/train/export.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

/// The tiny run of one of several ranks.
struct RankRun {
  explicit RankRun(Group& group, const Variables& changes = {})
      : command(tiny_command(changes)),
        run{folder / "run"},
        trainer(command.config, command.resolved, start_runtime(command.config.runtime), group) {
    run.create();
  }
  StateDict weights() { return clone_state(state_dict(trainer.model())); }

  TempFolder folder;
  TrainCommand command;
  RunFolder run;
  Trainer trainer;
};

/// Rank 1's gradient of one parameter becomes infinite in the third step, whose loss is finite.
void gradient_of_one_rank(Group& group) {
  RankRun run(group, {{"ITERATIONS", "5"}});
  StateDict before;
  run.trainer.on_step = [&](const StepRecord& record) {
    if (record.step != 2) return;
    before = run.weights();
    if (group.rank() != 1) return;
    run.trainer.model()->blocks[0]->attn->q_gain.register_hook(
        [](const at::Tensor& gradient) { return gradient + std::numeric_limits<float>::infinity(); });
  };
  try {
    run.trainer.train(run.run);
  } catch (const Error&) {
    const StateDict after = run.weights();
    for (size_t i = 0; i < before.size(); ++i)
      require(at::equal(before[i].second, after[i].second), before[i].first + " changed");
    throw;
  }
}

/// Every rank begins with rank 0's weights, whatever its own were.
void first_weights(Group& group) {
  RankRun run(group, {{"SEED", std::to_string(1 + group.rank())}, {"ITERATIONS", "1"}, {"CHECK_RANKS", "1"}});
  run.trainer.train(run.run);
}

/// Every gradient becomes the mean over ranks, in one bucket or many, sent during the backward pass or after it.
void average(Group& group) {
  Gpt model = make_random_model(tiny_config());
  const auto ids = random_ids(2, 8, model->config().vocab_size);
  const auto backward = [&](int seed) {
    const auto own = (ids + seed + group.rank()) % model->config().vocab_size;
    model(own, own).backward();
  };
  const auto gradients = [&] {
    std::vector<at::Tensor> out;
    for (const auto& parameter : model->parameters()) {
      if (parameter.grad().defined()) out.push_back(parameter.grad().clone());
    }
    return out;
  };
  backward(0);
  backward(1);
  auto expected = gradients();
  group.sum_(expected);
  for (auto& sum : expected) sum.div_(group.world_size());
  for (const int64_t bucket_bytes : {1, 3000, 1 << 20}) {
    for (const bool overlap : {true, false}) {
      model->zero_grad();
      GradientAverage mean(model, group, std::nullopt, bucket_bytes);
      // A step that ends before its gradients are complete.
      mean.start();
      mean.reset();
      backward(0);
      if (overlap) mean.start();
      backward(1);
      mean.finish();
      const auto got = gradients();
      require(got.size() == expected.size(), "number of gradients");
      for (size_t i = 0; i < got.size(); ++i)
        require(at::allclose(got[i], expected[i], 1e-5, 1e-7), "gradient " + std::to_string(i));
    }
  }
}

/// Each rank trains on the windows of its own shard, also after a restart.
void shuffled_windows(Group& group) {
  const Variables settings{
      {"LOADER", "shuffled"}, {"ITERATIONS", "4"}, {"SAVE_EVERY", "2"}, {"CHECK_RANKS", "1"}, {"MICRO_BATCH_TOKENS", "16"}};
  RankRun whole(group, settings), continued(group, settings);
  std::vector<std::vector<double>> losses;
  whole.trainer.on_step = [&](const StepRecord& record) { losses.push_back(record.micro_losses); };
  // Micro-step by micro-step, rank 0's and rank 1's.
  std::vector<double> expected;
  std::vector<ShuffledLoader> loaders;
  for (int rank = 0; rank < 2; ++rank) loaders.emplace_back(Dataset::get().data_path() + "/fineweb_train_*.bin", 16, rank, 2);
  whole.trainer.share_weights();
  for (int i = 0; i < 4; ++i) {
    for (auto& loader : loaders) {
      const auto chunk = loader.next(128, 4);
      const auto tokens = torch::tensor(std::vector<int64_t>(chunk.begin(), chunk.end())).view({1, 17});
      torch::NoGradGuard no_grad;
      expected.push_back(whole.trainer.model()(tokens.narrow(1, 0, 16), tokens.narrow(1, 1, 16)).item<double>());
    }
  }
  whole.trainer.train(whole.run);
  for (size_t i = 0; i < expected.size(); ++i)
    require(std::abs(losses[0].at(i) - expected[i]) < 1e-6, format("the loss of micro-step %zu", i));
  require(std::abs(expected[0] - expected[1]) > 1e-4, "both ranks have the same windows");
  const auto path = group.broadcast((whole.run.checkpoints() / "step_00000002.safetensors").string());
  if (group.is_master()) continued.trainer.restore(load_checkpoint(path));
  size_t step = 2;
  continued.trainer.on_step = [&](const StepRecord& record) {
    require(record.micro_losses == losses[step], format("the losses after step %zu", step));
    ++step;
  };
  continued.trainer.train(continued.run);
  require(step == 4, "not all steps were done");
}

/// The ranks wait for rank 0's GPTQ, and score its artifact together.
void gptq_export(Group& group) {
  RankRun run(group, {{"MODEL_DIM", "192"}, {"QUANTIZER", "gptq"}, {"FIT_BUDGET", "1"}, {"GPTQ_CALIBRATION_BATCHES", "2"}});
  run.trainer.train(run.run);
  require(export_model(run.trainer, run.run, 0) == ExitCode::ok, "the export failed");
  require(group.is_master() == std::filesystem::exists(run.run.gptq_artifact()), "rank 0 alone writes the artifact");
  std::vector<std::pair<std::string, at::Tensor>> weights;
  for (const auto& [name, tensor] : run.weights()) weights.emplace_back(name, tensor);
  group.require_equal(weights);
}

const bool kAdded = add_scenario("gradient_of_one_rank", gradient_of_one_rank) && add_scenario("first_weights", first_weights) &&
                    add_scenario("average", average) && add_scenario("shuffled_windows", shuffled_windows) &&
                    add_scenario("gptq_export", gptq_export);

TEST(TrainerRanks, ANonFiniteGradientOfOneStopsAllBeforeTheWeightsChange) {
  const auto results = Ranks(2, "gradient_of_one_rank").wait();
  for (const auto& result : results) EXPECT_EQ(result.code, static_cast<int>(ExitCode::non_finite)) << result.err;
  EXPECT_NE(results[0].err.find("the gradient of blocks.0.attn.q_gain is not finite at step 3"), std::string::npos)
      << results[0].err;
  EXPECT_EQ(results[1].err, "");
}

TEST(TrainerRanks, AverageTheirGradients) {
  for (const int size : {1, 2, 3}) {
    for (const auto& result : Ranks(size, "average").wait()) EXPECT_EQ(result.code, 0) << result.err;
  }
}

TEST(TrainerRanks, BeginWithTheWeightsOfRank0) {
  for (const auto& result : Ranks(2, "first_weights").wait()) EXPECT_EQ(result.code, 0) << result.err;
}

TEST(TrainerRanks, WaitForGptq) {
  for (const auto& result : Ranks(2, "gptq_export").wait()) EXPECT_EQ(result.code, 0) << result.err;
}

TEST(TrainerRanks, ShuffleTheWindowsOfTheirOwnShards) {
  for (const auto& result : Ranks(2, "shuffled_windows").wait()) EXPECT_EQ(result.code, 0) << result.err;
}

}  // namespace
}  // namespace pgolf::testing

int main(int argc, char** argv) {
  return pgolf::testing::main_with_scenarios(argc, argv);
}
