#include "pgolf/config/rope_options.h"

#include "config_testing.h"

namespace pgolf {
namespace {

using testing::rope_dims_per_layer;
using testing::train;
using testing::train_error;

TEST(RopeOptions, RopeDimsFromFlagAndEnvironment) {
  const TrainCommand both = train({"--rope-dims", "16"}, {{"ROPE_DIMS", "32"}});
  EXPECT_EQ(both.config.model.widest_rope().rope_dims, 16);
  EXPECT_EQ(find_option(both.resolved, "ROPE_DIMS").origin, "flag --rope-dims");
  const TrainCommand environment = train({}, {{"ROPE_DIMS", "32"}});
  EXPECT_EQ(environment.config.model.widest_rope().rope_dims, 32);
  EXPECT_EQ(find_option(environment.resolved, "ROPE_DIMS").origin, "environment ROPE_DIMS");
}

TEST(RopeOptions, RopeDimsAreCanonicalAndKnowTheHead) {
  const auto text = [](const char* value) { return find_option(train({"--rope-dims", value}).resolved, "ROPE_DIMS").text; };
  EXPECT_EQ(text("0"), "full");
  EXPECT_EQ(text("64"), "full");
  EXPECT_EQ(text("none"), "none");
  EXPECT_EQ(text("2"), "2");
  EXPECT_EQ(train({"--rope-dims=none"}).config.model.widest_rope().rope_dims, 0);
  const TrainCommand narrow = train({"--rope-dims=32", "--num-heads=16", "--num-kv-heads=8"});
  EXPECT_TRUE(narrow.config.model.widest_rope().full());
  EXPECT_TRUE(narrow.warnings.empty());
  EXPECT_CONTAINS(train_error({"--rope-dims=15"}), "the nearest valid values are 14 and 16 (or full, none) (flag --rope-dims)");
  EXPECT_CONTAINS(train_error({}, {{"ROPE_DIMS", "-2"}}), "negative");
  EXPECT_CONTAINS(train_error({"--rope-dims=some"}), "not a valid number of dims");
}

TEST(RopeOptions, RopeFractionSetsRopeDims) {
  const TrainCommand command = train({"--rope-fraction=0.1"});
  EXPECT_EQ(command.config.model.widest_rope().rope_dims, 6);
  EXPECT_EQ(find_option(command.resolved, "ROPE_DIMS").text, "6");
  EXPECT_EQ(find_option(command.resolved, "ROPE_DIMS").origin, "flag --rope-fraction");
  EXPECT_EQ(find_option(command.resolved, "ROPE_FRACTION").text, "0.1");
  EXPECT_EQ(train({"--rope-fraction=0"}).config.model.widest_rope().rope_dims, 0) << "a fraction of 0 is none, not ROPE_DIMS=0";
  EXPECT_EQ(train({"--rope-fraction=0.1", "--rope-dims=6"}).config.model.widest_rope().rope_dims, 6);
  EXPECT_CONTAINS(train_error({"--rope-fraction=0.1", "--rope-dims=16"}), "the fraction gives 6 of 64 dims, ROPE_DIMS gives 16");
  EXPECT_CONTAINS(train_error({}, {{"ROPE_FRACTION", "0"}, {"ROPE_DIMS", "0"}}),
                  "the fraction gives 0 of 64 dims, ROPE_DIMS gives 64");
  // A flag takes precedence over the environment, even if it is a different option.
  const TrainCommand fraction = train({"--rope-fraction=0.25"}, {{"ROPE_DIMS", "2"}, {"ROPE_LAYERS", "full,none"}});
  EXPECT_EQ(fraction.config.model.widest_rope().rope_dims, 16);
  EXPECT_EQ(find_option(fraction.resolved, "ROPE_LAYERS").text, "same");
  const TrainCommand dims = train({"--rope-dims=none"}, {{"ROPE_FRACTION", "0.25"}});
  EXPECT_TRUE(dims.config.model.widest_rope().none());
  EXPECT_EQ(find_option(dims.resolved, "ROPE_FRACTION").text, "none");
  EXPECT_CONTAINS(train_error({"--rope-fraction=1.5"}), "0 <= x <= 1");
}

TEST(RopeOptions, RopeLayersSetRopeDimsPerLayer) {
  const TrainCommand command = train({"--rope-layers=full*3,none"});
  EXPECT_EQ(rope_dims_per_layer(command), (std::vector<int>{64, 64, 64, 0, 64, 64, 64, 0, 64}));
  EXPECT_EQ(command.config.model.rope_of(3).rope_dims, 0);
  EXPECT_EQ(command.config.model.rope_of(4).rope_dims, 64);
  EXPECT_EQ(find_option(command.resolved, "ROPE_LAYERS").text, "full*3,none,full*3,none,full");
  EXPECT_FALSE(find_option(command.resolved, "ROPE_DIMS").replayable);
  EXPECT_CONTAINS(train_error({"--rope-layers=16", "--rope-dims=16"}), "ROPE_LAYERS=16 (flag --rope-layers), ROPE_DIMS=16");
  EXPECT_EQ(train({"--rope-layers=16,none"}, {{"ROPE_DIMS", "32"}}).config.model.rope_of(1).rope_dims, 0);
  EXPECT_CONTAINS(train_error({"--rope-layers=16*10"}), "more values than the 9 layers (flag --rope-layers)");
}

TEST(RopeOptions, RopeScalingMustBeComplete) {
  EXPECT_CONTAINS(train_error({"--rope-scaling=yarn", "--rope-scaling-factor=2"}), "ROPE_ORIGINAL_SEQ_LEN");
  EXPECT_CONTAINS(train_error({"--rope-scaling=ntk", "--rope-scaling-factor=2", "--rope-dims=2"}), "not defined for 2 dims");
  EXPECT_CONTAINS(train_error({"--rope-scaling=ntk", "--rope-scaling-factor=2", "--rope-layers=full,2"}),
                  "not defined for 2 dims");
  EXPECT_NO_THROW(train({"--rope-scaling=ntk", "--rope-scaling-factor=2", "--rope-layers=full,none"}));
}

TEST(RopeOptions, RopeDimsLargerThanTheHeadWarns) {
  const TrainCommand command = train({}, {{"ROPE_DIMS", "128"}});
  EXPECT_TRUE(command.config.model.widest_rope().full());
  ASSERT_EQ(command.warnings.size(), 1u);
  EXPECT_CONTAINS(command.warnings[0], "ROPE_DIMS=128");
  EXPECT_CONTAINS(command.warnings[0], "environment ROPE_DIMS");
}

}  // namespace
}  // namespace pgolf
