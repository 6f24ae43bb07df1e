// The files of configs/, and the documentation of the options.
#include "config_testing.h"
#include "pgolf/base/files.h"

namespace pgolf {
namespace {

using testing::preset;
using testing::train;

TEST(Presets, BaselineIsTheDefault) {
  const TrainCommand baseline = train({"--config", preset("baseline.env")}), defaults = train({});
  EXPECT_EQ(baseline.config.model.parameter_count(), 17'059'912);
  for (const auto& option : defaults.resolved) {
    if (option.name == "RUN_ID") continue;
    EXPECT_EQ(find_option(baseline.resolved, option.name).text, option.text) << option.name;
  }
}

TEST(Presets, Tiny) {
  const RunConfig tiny = train({"--config", preset("tiny.env")}).config;
  EXPECT_EQ(tiny.model.parameter_count(), 592'144);
  EXPECT_EQ(tiny.model.head_dim(), 32);
  EXPECT_EQ(tiny.data.train_batch_tokens, 8192);
  EXPECT_EQ(tiny.schedule.warmup_steps, 0);
}

TEST(Presets, CpuSmall) {
  const TrainCommand small = train({"--config", preset("cpu_small.env")});
  EXPECT_EQ(small.config.model.head_dim(), 64);
  EXPECT_EQ(small.config.model.widest_rope().rope_dims, 16);
  EXPECT_EQ(small.config.schedule.warmdown_frac, 0.4);
  EXPECT_EQ(small.config.schedule.max_wallclock_seconds, 180.0);
  EXPECT_TRUE(small.warnings.empty());
  EXPECT_CONTAINS(find_option(small.resolved, "ROPE_DIMS").origin, "cpu_small.env:");
}

TEST(Presets, AutoresearchHasItsSizeAndBudget) {
  const TrainCommand command = train({"--config", preset("autoresearch.env")});
  EXPECT_TRUE(command.warnings.empty());
  const ModelConfig& model = command.config.model;
  EXPECT_EQ(model.head_dim(), 128);
  EXPECT_EQ(model.window(6), 1024);
  EXPECT_EQ(model.window(7), 0) << "the last sees everything";
  EXPECT_EQ(command.config.schedule.max_wallclock_seconds, 300);
}

TEST(Presets, HfSmallIsOfAShapeThatOtherProgramsKnow) {
  const TrainCommand small = train({"--config", preset("hf_small.env")});
  EXPECT_TRUE(small.warnings.empty());
  const ModelConfig& model = small.config.model;
  EXPECT_EQ(model.mlp_kind, MlpKind::swiglu);
  EXPECT_FALSE(model.unet_skips || model.resid_mix || model.qk_norm || model.parallel_block);
  EXPECT_EQ(model.logit_softcap, 0);
  EXPECT_EQ(model.head_dim(), 64);
  EXPECT_EQ(model.widest_rope().rope_dims, 16);
}

TEST(Presets, StudyArmsAreThePapersShapes) {
  const TrainCommand sequential = train({"--config", preset("study_sequential.env")}),
                     parallel = train({"--config", preset("study_parallel.env")});
  for (const auto* command : {&sequential, &parallel}) {
    const RunConfig& c = command->config;
    EXPECT_TRUE(command->warnings.empty());
    EXPECT_EQ(c.model.head_dim(), 64) << "so that 2, 6, 16, 32 and 48 dims are distinct";
    EXPECT_TRUE(c.model.widest_rope().full());
    EXPECT_TRUE(c.model.norm_weights);
    EXPECT_FALSE(c.model.unet_skips || c.model.resid_mix || c.model.qk_norm || c.model.tie_embeddings);
    EXPECT_EQ(c.model.mlp_kind, MlpKind::swiglu);
    EXPECT_EQ(c.model.logit_softcap, 0);
    EXPECT_EQ(c.model.init_std, 0.02);
    EXPECT_EQ(c.optim.optimizer, OptimizerChoice::adamw);
    EXPECT_EQ(c.optim.weight_decay, 0.1);
    EXPECT_EQ(c.schedule.lr_schedule, LrSchedule::cosine);
    EXPECT_EQ(c.schedule.max_wallclock_seconds, 0) << "arms must do the same number of steps";
  }
  EXPECT_FALSE(sequential.config.model.parallel_block);
  EXPECT_LT(sequential.config.model.num_kv_heads, sequential.config.model.num_heads);
  EXPECT_TRUE(parallel.config.model.parallel_block);
  EXPECT_EQ(parallel.config.model.num_kv_heads, parallel.config.model.num_heads);
}

TEST(Presets, ADecayThatIsLongerThanTheRunIsAWarning) {
  const auto warnings = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"--max-wallclock-seconds", "0"});
    return train(flags).warnings;
  };
  ASSERT_EQ(warnings({"--iterations", "100"}).size(), 1u);
  EXPECT_CONTAINS(warnings({"--iterations", "100"})[0], "WARMDOWN_ITERS=1200 is more than ITERATIONS=100");
  EXPECT_TRUE(warnings({"--iterations", "1200"}).empty());
  EXPECT_TRUE(warnings({"--iterations", "100", "--warmdown-frac", "0.4"}).empty());
  EXPECT_TRUE(warnings({"--iterations", "100", "--warmdown-iters", "0"}).empty());
  EXPECT_TRUE(train({"--iterations", "100", "--max-wallclock-seconds", "60"}).warnings.empty());
}

TEST(Presets, Records) {
  struct Record {
    const char* file;
    int64_t parameters;
    std::vector<int> encoder, decoder;
  };
  const std::vector<Record> records{
      {"record_2026_03_25.env", 27'067'484, {0, 1, 2, 3, 4}, {5, 6, 7, 8, 9, 10}},
      {"record_2026_04_05.env", 35'943'512, {0, 1, 2, 3, 4, 5, 4}, {5, 4, 5, 6, 7, 8, 9, 10}},
      {"record_2026_04_06.env", 35'943'512, {0, 1, 2, 3, 4, 5, 4}, {5, 4, 5, 6, 7, 8, 9, 10}},
      {"record_2026_04_09.env", 35'944'536, {0, 1, 2, 3, 4, 5, 3, 4}, {5, 3, 4, 5, 6, 7, 8, 9, 10}}};
  for (const auto& record : records) {
    SCOPED_TRACE(record.file);
    const TrainCommand command = train({"--config", preset(record.file)});
    EXPECT_TRUE(command.warnings.empty());
    EXPECT_EQ(command.config.model.parameter_count(), record.parameters);
    EXPECT_EQ(command.config.model.full_order().encoder, record.encoder);
    EXPECT_EQ(command.config.model.full_order().decoder, record.decoder);
  }
}

TEST(TrainOptions, HelpAndReferenceNameEveryOption) {
  const std::string help = train_help(), markdown = train_options_markdown();
  for (const auto& option : train({}).resolved) {
    EXPECT_CONTAINS(help, "  " + flag_of(option.name) + " ");
    EXPECT_CONTAINS(help, "environment " + option.name + "\n");
    EXPECT_CONTAINS(markdown, "| `" + flag_of(option.name) + "` | `" + option.name + "` |");
  }
  EXPECT_CONTAINS(help, "dims full (or 0), none, or an even number from 2 to head_dim; default full; environment ROPE_DIMS");
  EXPECT_CONTAINS(help, "integer >= 1, bytes; default 16000000; environment BUDGET_BYTES");
  EXPECT_CONTAINS(help, "auto|cpu|cuda; default auto");
  for (const char* action : {"--config FILE", "--print-config", "--dry-run", "--resume [auto|PATH]", "--write-source FILE",
                             "--version", "--help, -h"}) {
    EXPECT_CONTAINS(help, action);
  }
}

TEST(OptionsPage, IsWhatTheProgramPrints) {
  const std::string page = read_text(std::filesystem::path(PGOLF_SOURCE_DIR) / "docs/options.md");
  EXPECT_NE(page.find(train_options_markdown()), std::string::npos)
      << "update docs/options.md with the output of train_gpt --help-markdown";
}

}  // namespace
}  // namespace pgolf
