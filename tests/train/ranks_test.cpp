// The training loop in a job of several processes; tests/ranks.py has what is seen from outside.
#include "support/ranks.h"

#include <limits>

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

const bool kAdded = add_scenario("gradient_of_one_rank", gradient_of_one_rank) && add_scenario("first_weights", first_weights);

TEST(TrainerRanks, ANonFiniteGradientOfOneStopsAllBeforeTheWeightsChange) {
  const auto results = Ranks(2, "gradient_of_one_rank").wait();
  for (const auto& result : results) EXPECT_EQ(result.code, static_cast<int>(ExitCode::non_finite)) << result.err;
  EXPECT_NE(results[0].err.find("the gradient of blocks.0.attn.q_gain is not finite at step 3"), std::string::npos)
      << results[0].err;
  EXPECT_EQ(results[1].err, "");
}

TEST(TrainerRanks, BeginWithTheWeightsOfRank0) {
  for (const auto& result : Ranks(2, "first_weights").wait()) EXPECT_EQ(result.code, 0) << result.err;
}

}  // namespace
}  // namespace pgolf::testing

int main(int argc, char** argv) {
  return pgolf::testing::main_with_scenarios(argc, argv);
}
