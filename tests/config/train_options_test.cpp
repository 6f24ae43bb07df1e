#include "pgolf/config/train_options.h"

#include <regex>
#include <set>

#include "config_testing.h"
#include "pgolf/base/files.h"

namespace pgolf {
namespace {

using testing::TemporaryFolder;
using testing::train;
using testing::train_error;

std::string preset(const char* name) {
  return std::string(PGOLF_SOURCE_DIR) + "/configs/" + name;
}

TEST(TrainOptions, DefaultsAreThePythonPrograms) {
  const TrainCommand command = train({});
  const std::map<std::string, std::string> python = {
      {"DATA_PATH", "./data/datasets/fineweb10B_sp1024"},
      {"TOKENIZER_PATH", "./data/tokenizers/fineweb_1024_bpe.model"},
      {"SEED", "1337"},
      {"VAL_BATCH_SIZE", "524288"},
      {"VAL_LOSS_EVERY", "1000"},
      {"TRAIN_LOG_EVERY", "200"},
      {"ITERATIONS", "20000"},
      {"WARMDOWN_ITERS", "1200"},
      {"WARMUP_STEPS", "20"},
      {"TRAIN_BATCH_TOKENS", "524288"},
      {"TRAIN_SEQ_LEN", "1024"},
      {"MAX_WALLCLOCK_SECONDS", "600.0"},
      {"QK_GAIN_INIT", "1.5"},
      {"VOCAB_SIZE", "1024"},
      {"NUM_LAYERS", "9"},
      {"MODEL_DIM", "512"},
      {"NUM_HEADS", "8"},
      {"NUM_KV_HEADS", "4"},
      {"MLP_MULT", "2"},
      {"TIE_EMBEDDINGS", "1"},
      {"ROPE_BASE", "10000.0"},
      {"LOGIT_SOFTCAP", "30.0"},
      {"EMBED_LR", "0.6"},
      {"HEAD_LR", "0.008"},
      {"TIED_EMBED_LR", "0.05"},
      {"TIED_EMBED_INIT_STD", "0.005"},
      {"MATRIX_LR", "0.04"},
      {"SCALAR_LR", "0.04"},
      {"MUON_MOMENTUM", "0.95"},
      {"MUON_BACKEND_STEPS", "5"},
      {"MUON_MOMENTUM_WARMUP_START", "0.85"},
      {"MUON_MOMENTUM_WARMUP_STEPS", "500"},
      {"BETA1", "0.9"},
      {"BETA2", "0.95"},
      {"ADAM_EPS", "1e-08"},
      {"GRAD_CLIP_NORM", "0.0"},
      {"CONTROL_TENSOR_NAME_PATTERNS",
       "attn_scale,attn_scales,mlp_scale,mlp_scales,resid_mix,resid_mixes,q_gain,skip_weight,skip_weights"},
      {"INT8_KEEP_FLOAT_FP32_NAME_PATTERNS",
       "attn_scale,attn_scales,mlp_scale,mlp_scales,resid_mix,resid_mixes,q_gain,skip_weight,skip_weights"}};
  for (const auto& [name, text] : python) {
    EXPECT_EQ(find_option(command.resolved, name).text, text) << name;
    EXPECT_EQ(find_option(command.resolved, name).origin, "default") << name;
  }
  EXPECT_EQ(command.config.model.parameter_count(), 17'059'912);
  EXPECT_TRUE(command.warnings.empty());
}

TEST(TrainOptions, OwnDefaults) {
  const TrainCommand command = train({});
  const std::map<std::string, std::string> own = {{"ROPE_DIMS", "full"},     {"ROPE_TABLE_DTYPE", "float32"},
                                                  {"OUT_DIR", "runs"},       {"DEVICE", "auto"},
                                                  {"DTYPE", "auto"},         {"OPS", "fast"},
                                                  {"CUDA_GRAPHS", "auto"},   {"MUON_DTYPE", "auto"},
                                                  {"SAVE_EVERY", "0"},       {"KEEP_LAST", "2"},
                                                  {"EVAL_TOKENS", "0"},      {"MICRO_BATCH_TOKENS", "0"},
                                                  {"PARALLEL_PASSES", "0"},  {"NUM_THREADS", "0"},
                                                  {"WARMDOWN_FRAC", "none"}, {"BUDGET_BYTES", "16000000"},
                                                  {"PROFILE", "0"},          {"MIN_STEPS", "0"}};
  for (const auto& [name, text] : own) EXPECT_EQ(find_option(command.resolved, name).text, text) << name;
  EXPECT_TRUE(command.config.model.rope.full());
  EXPECT_EQ(command.config.model.rope.head_dim, 64);
  EXPECT_LT(command.config.schedule.warmdown_frac, 0);
}

/// One value per option that is not its default: each must reach the configuration through flag and environment alike.
TEST(TrainOptions, EveryOptionThroughFlagAndEnvironment) {
  const std::map<std::string, std::string> values = {{"VOCAB_SIZE", "2048"},
                                                     {"NUM_LAYERS", "3"},
                                                     {"MODEL_DIM", "256"},
                                                     {"NUM_HEADS", "4"},
                                                     {"NUM_KV_HEADS", "1"},
                                                     {"MLP_MULT", "3"},
                                                     {"TIE_EMBEDDINGS", "0"},
                                                     {"TIED_EMBED_INIT_STD", "0.01"},
                                                     {"LOGIT_SOFTCAP", "15.0"},
                                                     {"QK_GAIN_INIT", "2.0"},
                                                     {"PARALLEL_BLOCK", "1"},
                                                     {"MLP_KIND", "leaky_relu2"},
                                                     {"MLP_LEAKY_SLOPE", "0.25"},
                                                     {"NORM_WEIGHTS", "1"},
                                                     {"UNET_SKIPS", "0"},
                                                     {"RESID_MIX", "0"},
                                                     {"ROPE_DIMS", "16"},
                                                     {"ROPE_FRACTION", "0.25"},
                                                     {"ROPE_STYLE", "interleaved"},
                                                     {"ROPE_SELECT", "uniform"},
                                                     {"ROPE_SCALING", "yarn"},
                                                     {"ROPE_SCALING_FACTOR", "4.0"},
                                                     {"ROPE_ORIGINAL_SEQ_LEN", "256"},
                                                     {"QK_NORM", "0"},
                                                     {"ROPE_BASE", "5000.0"},
                                                     {"ROPE_TABLE_DTYPE", "bfloat16"},
                                                     {"DATA_PATH", "d"},
                                                     {"TOKENIZER_PATH", "t.model"},
                                                     {"MICRO_BATCH_TOKENS", "8192"},
                                                     {"PARALLEL_PASSES", "2"},
                                                     {"TRAIN_BATCH_TOKENS", "16384"},
                                                     {"TRAIN_SEQ_LEN", "512"},
                                                     {"VAL_BATCH_SIZE", "8192"},
                                                     {"EVAL_TOKENS", "4096"},
                                                     {"EMBED_LR", "0.1"},
                                                     {"HEAD_LR", "0.2"},
                                                     {"TIED_EMBED_LR", "0.3"},
                                                     {"MATRIX_LR", "0.5"},
                                                     {"SCALAR_LR", "0.7"},
                                                     {"MUON_MOMENTUM", "0.8"},
                                                     {"MUON_MOMENTUM_WARMUP_START", "0.7"},
                                                     {"MUON_MOMENTUM_WARMUP_STEPS", "9"},
                                                     {"MUON_BACKEND_STEPS", "6"},
                                                     {"MUON_DTYPE", "float32"},
                                                     {"BETA1", "0.8"},
                                                     {"BETA2", "0.99"},
                                                     {"ADAM_EPS", "1e-06"},
                                                     {"GRAD_CLIP_NORM", "1.0"},
                                                     {"CONTROL_TENSOR_NAME_PATTERNS", "a,b"},
                                                     {"ITERATIONS", "100"},
                                                     {"MAX_WALLCLOCK_SECONDS", "60.0"},
                                                     {"MIN_STEPS", "150"},
                                                     {"WARMUP_STEPS", "2"},
                                                     {"WARMDOWN_FRAC", "0.4"},
                                                     {"SEED", "7"},
                                                     {"DEVICE", "cpu"},
                                                     {"DTYPE", "bfloat16"},
                                                     {"OPS", "reference"},
                                                     {"NUM_THREADS", "2"},
                                                     {"CUDA_GRAPHS", "off"},
                                                     {"OUT_DIR", "o"},
                                                     {"RUN_ID", "r-1"},
                                                     {"TRAIN_LOG_EVERY", "10"},
                                                     {"VAL_LOSS_EVERY", "20"},
                                                     {"SAVE_EVERY", "30"},
                                                     {"KEEP_LAST", "4"},
                                                     {"PROFILE", "6"},
                                                     {"BUDGET_BYTES", "1000"},
                                                     {"INT8_KEEP_FLOAT_FP32_NAME_PATTERNS", "c"}};
  std::vector<std::string> flags;
  for (const auto& [name, text] : values) flags.push_back(flag_of(name) + "=" + text);
  for (const TrainCommand& command : {train(flags), train({}, Environment(values.begin(), values.end()))}) {
    // Those contradict others: WARMDOWN_ITERS, ROPE_LAYERS, INIT_STD, OPTIMIZER, WEIGHT_DECAY, LR_SCHEDULE and its two.
    ASSERT_EQ(command.resolved.size(), values.size() + 8);
    for (const auto& [name, text] : values) EXPECT_EQ(find_option(command.resolved, name).text, text) << name;
    const RunConfig& c = command.config;
    EXPECT_EQ(c.model.vocab_size, 2048);
    EXPECT_EQ(c.model.num_layers, 3);
    EXPECT_EQ(c.model.model_dim, 256);
    EXPECT_EQ(c.model.num_heads, 4);
    EXPECT_EQ(c.model.num_kv_heads, 1);
    EXPECT_EQ(c.model.mlp_mult, 3);
    EXPECT_FALSE(c.model.tie_embeddings);
    EXPECT_EQ(c.model.tied_embed_init_std, 0.01);
    EXPECT_EQ(c.model.logit_softcap, 15.0);
    EXPECT_EQ(c.model.qk_gain_init, 2.0);
    EXPECT_EQ(c.model.rope.rope_dims, 16);
    EXPECT_EQ(c.model.rope.head_dim, 64);
    EXPECT_EQ(c.model.rope.base, 5000.0);
    EXPECT_EQ(c.model.rope.style, RopeStyle::interleaved);
    EXPECT_EQ(c.model.rope.select, RopeSelect::uniform);
    EXPECT_EQ(c.model.rope.scaling, RopeScaling::yarn);
    EXPECT_EQ(c.model.rope.scaling_factor, 4.0);
    EXPECT_EQ(c.model.rope.original_seq_len, 256);
    EXPECT_FALSE(c.model.qk_norm);
    EXPECT_TRUE(c.model.parallel_block);
    EXPECT_EQ(c.model.mlp_kind, MlpKind::leaky_relu2);
    EXPECT_EQ(c.model.mlp_leaky_slope, 0.25);
    EXPECT_TRUE(c.model.norm_weights);
    EXPECT_FALSE(c.model.unet_skips);
    EXPECT_FALSE(c.model.resid_mix);
    EXPECT_EQ(c.model.rope.table_dtype, RopeTableDtype::bfloat16);
    EXPECT_EQ(c.data.train_files(), "d/fineweb_train_*.bin");
    EXPECT_EQ(c.data.tokenizer_path, "t.model");
    EXPECT_EQ(c.data.micro_batch_tokens, 8192);
    EXPECT_EQ(c.data.parallel_passes, 2);
    EXPECT_EQ(c.data.train_batch_tokens, 16'384);
    EXPECT_EQ(c.data.train_seq_len, 512);
    EXPECT_EQ(c.data.val_batch_size, 8192);
    EXPECT_EQ(c.data.eval_tokens, 4096);
    EXPECT_EQ(c.optim.embed_lr, 0.1);
    EXPECT_EQ(c.optim.head_lr, 0.2);
    EXPECT_EQ(c.optim.tied_embed_lr, 0.3);
    EXPECT_EQ(c.optim.matrix_lr, 0.5);
    EXPECT_EQ(c.optim.scalar_lr, 0.7);
    EXPECT_EQ(c.optim.muon_momentum, 0.8);
    EXPECT_EQ(c.optim.muon_momentum_warmup_start, 0.7);
    EXPECT_EQ(c.optim.muon_momentum_warmup_steps, 9);
    EXPECT_EQ(c.optim.muon_backend_steps, 6);
    EXPECT_EQ(c.optim.muon_dtype, DtypeChoice::float32);
    EXPECT_EQ(c.optim.beta1, 0.8);
    EXPECT_EQ(c.optim.beta2, 0.99);
    EXPECT_EQ(c.optim.adam_eps, 1e-6);
    EXPECT_EQ(c.optim.grad_clip_norm, 1.0);
    EXPECT_EQ(c.optim.control_patterns, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(c.schedule.iterations, 100);
    EXPECT_EQ(c.schedule.max_wallclock_seconds, 60.0);
    EXPECT_EQ(c.schedule.min_steps, 150);
    EXPECT_EQ(c.schedule.warmup_steps, 2);
    EXPECT_EQ(c.schedule.warmdown_frac, 0.4);
    EXPECT_EQ(c.runtime.seed, 7);
    EXPECT_EQ(c.runtime.device, DeviceChoice::cpu);
    EXPECT_EQ(c.runtime.dtype, DtypeChoice::bfloat16);
    EXPECT_EQ(c.runtime.ops, OpsPath::reference);
    EXPECT_EQ(c.runtime.num_threads, 2);
    EXPECT_EQ(c.runtime.cuda_graphs, SwitchChoice::off);
    EXPECT_EQ(c.output.out_dir, "o");
    EXPECT_EQ(c.output.run_id, "r-1");
    EXPECT_TRUE(c.output.run_id_given);
    EXPECT_EQ(c.output.train_log_every, 10);
    EXPECT_EQ(c.output.val_loss_every, 20);
    EXPECT_EQ(c.output.save_every, 30);
    EXPECT_EQ(c.output.keep_last, 4);
    EXPECT_EQ(c.output.profile_steps, 6);
    EXPECT_EQ(c.output.budget_bytes, 1000);
    EXPECT_EQ(c.output.int8_keep_float_patterns, (std::vector<std::string>{"c"}));
  }
  EXPECT_EQ(train({"--warmdown-iters=5"}).config.schedule.warmdown_iters, 5);
}

TEST(TrainOptions, RopeDimsFromFlagAndEnvironment) {
  const TrainCommand both = train({"--rope-dims", "16"}, {{"ROPE_DIMS", "32"}});
  EXPECT_EQ(both.config.model.rope.rope_dims, 16);
  EXPECT_EQ(find_option(both.resolved, "ROPE_DIMS").origin, "flag --rope-dims");
  const TrainCommand environment = train({}, {{"ROPE_DIMS", "32"}});
  EXPECT_EQ(environment.config.model.rope.rope_dims, 32);
  EXPECT_EQ(find_option(environment.resolved, "ROPE_DIMS").origin, "environment ROPE_DIMS");
}

TEST(TrainOptions, RopeDimsAreCanonicalAndKnowTheHead) {
  const auto text = [](const char* value) { return find_option(train({"--rope-dims", value}).resolved, "ROPE_DIMS").text; };
  EXPECT_EQ(text("0"), "full");
  EXPECT_EQ(text("64"), "full");
  EXPECT_EQ(text("none"), "none");
  EXPECT_EQ(text("2"), "2");
  EXPECT_EQ(train({"--rope-dims=none"}).config.model.rope.rope_dims, 0);
  const TrainCommand narrow = train({"--rope-dims=32", "--num-heads=16", "--num-kv-heads=8"});
  EXPECT_TRUE(narrow.config.model.rope.full());
  EXPECT_TRUE(narrow.warnings.empty());
  EXPECT_CONTAINS(train_error({"--rope-dims=15"}), "the nearest legal values are 14 and 16 (or full, none) (flag --rope-dims)");
  EXPECT_CONTAINS(train_error({}, {{"ROPE_DIMS", "-2"}}), "negative");
  EXPECT_CONTAINS(train_error({"--rope-dims=some"}), "not a number of lanes");
}

TEST(TrainOptions, RopeFractionIsAnotherWayToSayRopeDims) {
  const TrainCommand command = train({"--rope-fraction=0.1"});
  EXPECT_EQ(command.config.model.rope.rope_dims, 6);
  EXPECT_EQ(find_option(command.resolved, "ROPE_DIMS").text, "6");
  EXPECT_EQ(find_option(command.resolved, "ROPE_DIMS").origin, "flag --rope-fraction");
  EXPECT_EQ(find_option(command.resolved, "ROPE_FRACTION").text, "0.1");
  EXPECT_EQ(train({"--rope-fraction=0"}).config.model.rope.rope_dims, 0) << "a fraction of 0 is none, not ROPE_DIMS=0";
  EXPECT_EQ(train({"--rope-fraction=0.1", "--rope-dims=6"}).config.model.rope.rope_dims, 6);
  EXPECT_CONTAINS(train_error({"--rope-fraction=0.1", "--rope-dims=16"}), "the fraction is 6 of 64 lanes, the number is 16");
  EXPECT_CONTAINS(train_error({}, {{"ROPE_FRACTION", "0"}, {"ROPE_DIMS", "0"}}),
                  "the fraction is 0 of 64 lanes, the number is 64");
  // A flag counts for more than the environment, however it says it.
  const TrainCommand fraction = train({"--rope-fraction=0.25"}, {{"ROPE_DIMS", "2"}, {"ROPE_LAYERS", "full,none"}});
  EXPECT_EQ(fraction.config.model.rope.rope_dims, 16);
  EXPECT_TRUE(fraction.config.model.rope_layers.empty());
  EXPECT_EQ(find_option(fraction.resolved, "ROPE_LAYERS").text, "same");
  const TrainCommand dims = train({"--rope-dims=none"}, {{"ROPE_FRACTION", "0.25"}});
  EXPECT_TRUE(dims.config.model.rope.none());
  EXPECT_EQ(find_option(dims.resolved, "ROPE_FRACTION").text, "none");
  EXPECT_CONTAINS(train_error({"--rope-fraction=1.5"}), "0 <= x <= 1");
}

TEST(TrainOptions, RopeLayersSayRopeDimsLayerByLayer) {
  const TrainCommand command = train({"--rope-layers=full*3,none"});
  EXPECT_EQ(command.config.model.rope_layers, (std::vector<int>{64, 64, 64, 0, 64, 64, 64, 0, 64}));
  EXPECT_EQ(command.config.model.rope_of(3).rope_dims, 0);
  EXPECT_EQ(command.config.model.rope_of(4).rope_dims, 64);
  EXPECT_EQ(find_option(command.resolved, "ROPE_LAYERS").text, "full*3,none,full*3,none,full");
  EXPECT_FALSE(find_option(command.resolved, "ROPE_DIMS").replayable);
  EXPECT_CONTAINS(train_error({"--rope-layers=16", "--rope-dims=16"}), "ROPE_LAYERS=16 (flag --rope-layers), ROPE_DIMS=16");
  EXPECT_EQ(train({"--rope-layers=16,none"}, {{"ROPE_DIMS", "32"}}).config.model.rope_of(1).rope_dims, 0);
  EXPECT_CONTAINS(train_error({"--rope-layers=16*10"}), "more values than the 9 layers (flag --rope-layers)");
}

TEST(TrainOptions, RopeScalingIsNeverHalfSaid) {
  EXPECT_CONTAINS(train_error({"--rope-scaling=yarn", "--rope-scaling-factor=2"}), "ROPE_ORIGINAL_SEQ_LEN");
  EXPECT_CONTAINS(train_error({"--rope-scaling=ntk", "--rope-scaling-factor=2", "--rope-dims=2"}), "not defined for two lanes");
  EXPECT_CONTAINS(train_error({"--rope-scaling=ntk", "--rope-scaling-factor=2", "--rope-layers=full,2"}),
                  "not defined for two lanes");
  EXPECT_NO_THROW(train({"--rope-scaling=ntk", "--rope-scaling-factor=2", "--rope-layers=full,none"}));
}

TEST(TrainOptions, WhatHasNoEffectIsRefused) {
  EXPECT_CONTAINS(train_error({"--rope-scaling-factor=2"}),
                  "ROPE_SCALING_FACTOR=2.0 (flag --rope-scaling-factor), ROPE_SCALING=none");
  EXPECT_CONTAINS(train_error({"--rope-scaling=linear"}), "by how much is not said");
  EXPECT_NO_THROW(train({"--rope-scaling=linear", "--rope-scaling-factor=1"})) << "the first arm of a sweep over factors";
  EXPECT_CONTAINS(train_error({"--rope-scaling=ntk", "--rope-scaling-factor=2", "--rope-original-seq-len=64"}), "only yarn");
  EXPECT_CONTAINS(train_error({"--mlp-leaky-slope=0.1"}), "MLP_LEAKY_SLOPE=0.1 (flag --mlp-leaky-slope), MLP_KIND=relu2");
  EXPECT_CONTAINS(train_error({"--init-std=0.02", "--tied-embed-init-std=0.01"}), "both set the initial embedding");
  EXPECT_CONTAINS(train_error({"--weight-decay=0.1"}), "WEIGHT_DECAY=0.1 (flag --weight-decay), OPTIMIZER=muon");
  for (const char* flag : {"--muon-momentum=0.9", "--muon-momentum-warmup-start=0.5", "--muon-momentum-warmup-steps=7",
                           "--muon-backend-steps=4", "--muon-dtype=float32"}) {
    EXPECT_CONTAINS(train_error({"--optimizer=adamw", flag}), "OPTIMIZER=adamw");
  }
  for (const char* flag : {"--lr-warmup-frac=0.1", "--lr-min-scale=0.2"})
    EXPECT_CONTAINS(train_error({flag}), "LR_SCHEDULE=golf (default)");
  for (const char* flag : {"--warmdown-iters=5", "--warmdown-frac=0.5"})
    EXPECT_CONTAINS(train_error({"--lr-schedule=cosine", flag}), "LR_SCHEDULE=cosine");
}

TEST(TrainOptions, TheOtherOptimiserScheduleAndStart) {
  const std::vector<std::string> flags = {"--optimizer=adamw",    "--weight-decay=0.1", "--lr-schedule=cosine",
                                          "--lr-warmup-frac=0.1", "--lr-min-scale=0.2", "--init-std=0.02"};
  const TrainCommand command = train(flags);
  EXPECT_EQ(command.config.optim.optimizer, OptimizerChoice::adamw);
  EXPECT_EQ(command.config.optim.weight_decay, 0.1);
  EXPECT_EQ(command.config.schedule.lr_schedule, LrSchedule::cosine);
  EXPECT_EQ(command.config.schedule.lr_warmup_frac, 0.1);
  EXPECT_EQ(command.config.schedule.lr_min_scale, 0.2);
  EXPECT_EQ(command.config.model.init_std, 0.02);
  ASSERT_EQ(command.warnings.size(), 1u);
  EXPECT_CONTAINS(command.warnings[0], "MATRIX_LR=0.04 is Muon's default");
  auto with_rate = flags;
  with_rate.push_back("--matrix-lr=0.001");
  EXPECT_TRUE(train(with_rate).warnings.empty());
}

TEST(TrainOptions, RopeDimsLargerThanTheHeadWarns) {
  const TrainCommand command = train({}, {{"ROPE_DIMS", "128"}});
  EXPECT_TRUE(command.config.model.rope.full());
  ASSERT_EQ(command.warnings.size(), 1u);
  EXPECT_CONTAINS(command.warnings[0], "ROPE_DIMS=128");
  EXPECT_CONTAINS(command.warnings[0], "environment ROPE_DIMS");
}

TEST(TrainOptions, SlipInTheEnvironmentWarns) {
  const TrainCommand command = train({}, {{"ROPE_DIM", "16"}});
  EXPECT_TRUE(command.config.model.rope.full());
  ASSERT_EQ(command.warnings.size(), 1u);
  EXPECT_CONTAINS(command.warnings[0], "ROPE_DIM is not used; did you mean ROPE_DIMS?");
}

TEST(TrainOptions, UsualEnvironmentsDoNotWarn) {
  const Environment usual = {
      {"PATH", "/bin"},     {"HOME", "/"},       {"PWD", "/"},   {"OLDPWD", "/"},          {"SHELL", "sh"},
      {"TERM", "xterm"},    {"LANG", "C"},       {"USER", "me"}, {"OS", "Linux"},          {"RANK", "0"},
      {"WORLD_SIZE", "1"},  {"LOCAL_RANK", "0"}, {"SHLVL", "1"}, {"OMP_NUM_THREADS", "1"}, {"CUDA_VISIBLE_DEVICES", "0"},
      {"MASTER_ADDR", "x"}, {"MASTER_PORT", "1"}};
  EXPECT_TRUE(train({}, usual).warnings.empty());
}

TEST(TrainOptions, ShapeContradictions) {
  EXPECT_CONTAINS(train_error({"--num-heads=7"}),
                  "MODEL_DIM=512 (default), NUM_HEADS=7 (flag --num-heads): the heads must divide");
  EXPECT_CONTAINS(train_error({"--num-heads=7"}), "504 and 518");
  EXPECT_CONTAINS(train_error({"--num-kv-heads=3"}), "must divide the query heads");
  EXPECT_CONTAINS(train_error({"--model-dim=24"}), "a head has 3 lanes");
  EXPECT_CONTAINS(train_error({"--num-kv-heads=16"}), "must divide the query heads");
}

TEST(TrainOptions, BatchContradictions) {
  const std::string batch = train_error({"--train-batch-tokens=10000"});
  EXPECT_CONTAINS(batch, "TRAIN_BATCH_TOKENS=10000 (flag --train-batch-tokens), TRAIN_SEQ_LEN=1024 (default)");
  EXPECT_CONTAINS(batch, "8192 and 16384");
  EXPECT_CONTAINS(train_error({"--train-batch-tokens=100"}), "the nearest legal value is 8192");
  EXPECT_NO_THROW(train({"--train-batch-tokens=8192"}));
  EXPECT_CONTAINS(train_error({"--val-batch-size=8191"}), "at least 8 * 1024 = 8192");
  EXPECT_NO_THROW(train({"--val-batch-size=8192"}));
  for (const char* micro : {"1024", "24576", "131072", "1"}) {
    EXPECT_CONTAINS(train_error({"--train-batch-tokens=65536", std::string("--micro-batch-tokens=") + micro}),
                    "MICRO_BATCH_TOKENS must be 8192, 16384, 32768 or 65536");
  }
  EXPECT_CONTAINS(train_error({"--parallel-passes=3"}), "1, 2, 4 or 8 passes");
  EXPECT_CONTAINS(train_error({"--train-batch-tokens=65536", "--micro-batch-tokens=32768", "--parallel-passes=4"}),
                  "no more than a step has");
  EXPECT_NO_THROW(train({"--train-batch-tokens=65536", "--micro-batch-tokens=32768", "--parallel-passes=2"}));
}

TEST(TrainOptions, CudaGraphsNeedTheFastOperations) {
  EXPECT_CONTAINS(train_error({"--cuda-graphs=on", "--ops=reference"}),
                  "CUDA_GRAPHS=on (flag --cuda-graphs), OPS=reference (flag --ops): the reference operations read");
  EXPECT_NO_THROW(train({"--ops=reference"}));
}

TEST(TrainOptions, RangesOfValues) {
  EXPECT_CONTAINS(train_error({"--logit-softcap=-1"}), "must be >= 0");
  EXPECT_CONTAINS(train_error({"--init-std=0"}), "must be > 0");
  EXPECT_CONTAINS(train_error({"--mlp-kind=relu"}), "relu2, relu3, leaky_relu, leaky_relu2, gelu, swiglu");
  EXPECT_CONTAINS(train_error({"--rope-base=-1"}), "must be > 0");
  EXPECT_CONTAINS(train_error({"--vocab-size=65537"}), "from 1 to 65536");
  EXPECT_CONTAINS(train_error({"--beta1=1"}), "0 <= x < 1");
  EXPECT_CONTAINS(train_error({"--seed=-1"}), "from 0 to 4294967295");
  EXPECT_CONTAINS(train_error({"--iterations=1e3"}), "is not an integer >= 0");
  EXPECT_CONTAINS(train_error({"--device=gpu"}), "auto, cpu, cuda");
  EXPECT_CONTAINS(train_error({"--keep-last=0"}), ">= 1");
  EXPECT_CONTAINS(train_error({"--tokenizer-path=byte260.json"}), "must be a SentencePiece .model file");
}

TEST(TrainOptions, WarmdownInTwoWays) {
  EXPECT_CONTAINS(train_error({"--warmdown-frac=0.4"}, {{"WARMDOWN_ITERS", "100"}}),
                  "WARMDOWN_FRAC=0.4 (flag --warmdown-frac), WARMDOWN_ITERS=100 (environment WARMDOWN_ITERS)");
  EXPECT_CONTAINS(train_error({"--warmdown-frac=1.5"}), "0 <= x <= 1");
  const TrainCommand overridden = train({"--config", preset("cpu_small.env"), "--warmdown-frac=none", "--warmdown-iters=50"});
  EXPECT_LT(overridden.config.schedule.warmdown_frac, 0);
  EXPECT_EQ(overridden.config.schedule.warmdown_iters, 50);
}

TEST(TrainOptions, MinStepsNeedACap) {
  EXPECT_CONTAINS(train_error({"--min-steps=5", "--max-wallclock-seconds=0"}),
                  "MIN_STEPS=5 (flag --min-steps), MAX_WALLCLOCK_SECONDS=0.0 (flag --max-wallclock-seconds): without a cap");
  EXPECT_CONTAINS(train_error({"--min-steps=-1"}), "is not an integer >= 0");
  EXPECT_NO_THROW(train({"--max-wallclock-seconds=0"}));
}

TEST(TrainOptions, OverridesBeatEverythingAndAreChecked) {
  const testing::Arguments given({"--train-batch-tokens=65536", "--rope-layers=full*2,none", "--num-layers=6"});
  const auto with = [&](const Overrides& overrides) {
    return resolve_train_command(given.argc(), given.argv(), {{"NUM_LAYERS", "5"}}, overrides);
  };
  const TrainCommand command = with({{"TRAIN_BATCH_TOKENS", "8_192", "measured"}, {"NUM_LAYERS", "4", "measured"}});
  EXPECT_EQ(command.config.data.train_batch_tokens, 8192);
  EXPECT_EQ(find_option(command.resolved, "TRAIN_BATCH_TOKENS").text, "8192");
  EXPECT_EQ(find_option(command.resolved, "NUM_LAYERS").origin, "measured");
  EXPECT_EQ(find_option(command.resolved, "NUM_LAYERS").source, Source::override);
  EXPECT_EQ(command.config.model.rope_layers, (std::vector<int>{64, 64, 0, 64}));
  EXPECT_THROW(with({{"TRAIN_BATCH_TOKENS", "4096", "measured"}}), Error);
  EXPECT_THROW(with({{"NUM_LAYERS", "2", "measured"}}), Error);
}

TEST(TrainOptions, KeepFloatPatternsFollowTheControlPatterns) {
  EXPECT_EQ(train({"--control-tensor-name-patterns=x,y"}).config.output.int8_keep_float_patterns,
            (std::vector<std::string>{"x", "y"}));
  EXPECT_TRUE(train({}, {{"INT8_KEEP_FLOAT_FP32_NAME_PATTERNS", ""}}).config.output.int8_keep_float_patterns.empty());
}

TEST(TrainOptions, Actions) {
  const TrainCommand plain = train({});
  EXPECT_FALSE(plain.print_config || plain.dry_run || plain.help || plain.version);
  EXPECT_EQ(plain.resume, "");
  EXPECT_TRUE(train({"--print-config"}).print_config);
  EXPECT_TRUE(train({"--dry-run"}).dry_run);
  EXPECT_TRUE(train({"--version"}).version);
  EXPECT_TRUE(train({"-h"}, {{"SEED", "junk"}}).help);
  EXPECT_EQ(train({"--resume"}).resume, "auto");
  EXPECT_EQ(train({"--resume", "auto", "--seed=1"}).resume, "auto");
  EXPECT_EQ(train({"--resume", "runs/x"}).resume, "runs/x");
  EXPECT_EQ(train({"--write-source", "f.xz"}).write_source, "f.xz");
  EXPECT_CONTAINS(train_error({"train"}), "unexpected argument 'train'");
  EXPECT_CONTAINS(train_error({"--rope-dim", "16"}), "did you mean --rope-dims?");
}

TEST(TrainOptions, HelpAndReferenceNameEveryOption) {
  const std::string help = train_help(), markdown = train_options_markdown();
  for (const auto& option : train({}).resolved) {
    EXPECT_CONTAINS(help, "  " + flag_of(option.name) + " ");
    EXPECT_CONTAINS(help, "environment " + option.name + "\n");
    EXPECT_CONTAINS(markdown, "| `" + flag_of(option.name) + "` | `" + option.name + "` |");
  }
  EXPECT_CONTAINS(help, "lanes full (or 0), none, or even from 2 to head_dim; default full; environment ROPE_DIMS");
  EXPECT_CONTAINS(help, "integer >= 1, bytes; default 16000000; environment BUDGET_BYTES");
  EXPECT_CONTAINS(help, "auto|cpu|cuda; default auto");
  for (const char* action : {"--config FILE", "--print-config", "--dry-run", "--resume [auto|PATH]", "--write-source FILE",
                             "--version", "--help, -h"}) {
    EXPECT_CONTAINS(help, action);
  }
}

TEST(TrainOptions, GeneratedRunIds) {
  std::set<std::string> seen;
  for (int i = 0; i < 20; ++i) {
    const TrainCommand command = train({});
    EXPECT_FALSE(command.config.output.run_id_given);
    EXPECT_TRUE(std::regex_match(command.config.output.run_id, std::regex("[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")));
    EXPECT_EQ(find_option(command.resolved, "RUN_ID").text, command.config.output.run_id);
    seen.insert(command.config.output.run_id);
    seen.insert(make_run_id(command.resolved));
  }
  EXPECT_EQ(seen.size(), 40u);
}

TEST(TrainOptions, GivenRunIds) {
  for (const char* id : {"a", "My_run-1.2", "0", "_x", "123e4567-e89b-12d3-a456-426614174000"}) {
    EXPECT_EQ(train({std::string("--run-id=") + id}).config.output.run_id, id);
  }
  for (const char* id : {"a/b", "..", ".", ".hidden", "-x", "a b", "a\nb", "\xc3\xa4", "a\\b"}) {
    EXPECT_CONTAINS(train_error({}, {{"RUN_ID", id}}), "RUN_ID=");
  }
  EXPECT_CONTAINS(train_error({"--run-id=" + std::string(129, 'x')}), "up to 128");
}

TEST(TrainOptions, ConfigEnvGivesTheSameConfigurationAgain) {
  const TemporaryFolder folder;
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"--rope-dims=16", "--data-path=/data/my set #1", "--warmdown-frac=0.4", "--run-id=once"},
      {"--rope-dims=none", "--adam-eps=1e-10", "--matrix-lr=0.1234567890123456", "--tie-embeddings=off", "--device=CPU"},
      {"--rope-dims=128", "--control-tensor-name-patterns=", "--out-dir=\"quoted\\"},
      {"--int8-keep-float-fp32-name-patterns=", "--warmdown-iters=7"},
      {"--config", preset("tiny.env"), "--muon-dtype=float32"},
      {"--config", preset("study_sequential.env"), "--rope-layers=full*3,none"},
      {"--rope-scaling=yarn", "--rope-scaling-factor=1", "--rope-original-seq-len=512", "--mlp-kind=gelu"}};
  for (const auto& arguments : cases) {
    const TrainCommand first = train(arguments);
    for (const std::string& text : {config_env_text(first.resolved), config_listing(first.resolved)}) {
      const TrainCommand again = train({"--config", folder.write("config.env", text)});
      EXPECT_FALSE(testing::contains(text, "\nRUN_ID="));
      EXPECT_FALSE(again.config.output.run_id_given);
      ASSERT_EQ(again.resolved.size(), first.resolved.size());
      for (const auto& option : first.resolved) {
        if (option.name == "RUN_ID") continue;
        EXPECT_EQ(find_option(again.resolved, option.name).text, option.text) << option.name;
      }
      EXPECT_TRUE(again.warnings.empty());
    }
  }
}

TEST(TrainOptions, WhatAResumedRunMayChange) {
  const TrainCommand first = train({"--rope-dims=16"});
  std::map<std::string, std::string> stored;
  for (const auto& option : first.resolved) stored[option.name] = option.text;
  EXPECT_TRUE(
      differences_that_matter(stored, train({"--rope-dims=16", "--train-log-every=1", "--num-threads=1", "--out-dir=x"}).resolved)
          .empty());
  EXPECT_EQ(
      differences_that_matter(stored, train({"--rope-dims=32", "--seed=2"}).resolved),
      (std::vector<std::string>{"ROPE_DIMS: checkpoint has 16, this run has 32", "SEED: checkpoint has 1337, this run has 2"}));
  // 64 of 64 lanes is "full", however it was written.
  stored["ROPE_DIMS"] = "full";
  EXPECT_TRUE(differences_that_matter(stored, train({"--rope-dims=64"}).resolved).empty());
}

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
  EXPECT_EQ(tiny.model.rope.head_dim, 32);
  EXPECT_EQ(tiny.data.train_batch_tokens, 8192);
  EXPECT_EQ(tiny.schedule.warmup_steps, 0);
}

TEST(Presets, CpuSmall) {
  const TrainCommand small = train({"--config", preset("cpu_small.env")});
  EXPECT_EQ(small.config.model.rope.head_dim, 64);
  EXPECT_EQ(small.config.model.rope.rope_dims, 16);
  EXPECT_EQ(small.config.schedule.warmdown_frac, 0.4);
  EXPECT_EQ(small.config.schedule.max_wallclock_seconds, 180.0);
  EXPECT_TRUE(small.warnings.empty());
  EXPECT_CONTAINS(find_option(small.resolved, "ROPE_DIMS").origin, "cpu_small.env:");
}

TEST(Presets, StudyArmsAreThePapersShapes) {
  const TrainCommand sequential = train({"--config", preset("study_sequential.env")}),
                     parallel = train({"--config", preset("study_parallel.env")});
  for (const auto* command : {&sequential, &parallel}) {
    const RunConfig& c = command->config;
    EXPECT_TRUE(command->warnings.empty());
    EXPECT_EQ(c.model.head_dim(), 64) << "so that 2, 6, 16, 32 and 48 lanes are distinct";
    EXPECT_TRUE(c.model.rope.full());
    EXPECT_TRUE(c.model.norm_weights);
    EXPECT_FALSE(c.model.unet_skips || c.model.resid_mix || c.model.qk_norm || c.model.tie_embeddings);
    EXPECT_EQ(c.model.mlp_kind, MlpKind::swiglu);
    EXPECT_EQ(c.model.logit_softcap, 0);
    EXPECT_EQ(c.model.init_std, 0.02);
    EXPECT_EQ(c.optim.optimizer, OptimizerChoice::adamw);
    EXPECT_EQ(c.optim.weight_decay, 0.1);
    EXPECT_EQ(c.schedule.lr_schedule, LrSchedule::cosine);
    EXPECT_EQ(c.schedule.max_wallclock_seconds, 0) << "arms must do equally many steps";
  }
  EXPECT_FALSE(sequential.config.model.parallel_block);
  EXPECT_LT(sequential.config.model.num_kv_heads, sequential.config.model.num_heads);
  EXPECT_TRUE(parallel.config.model.parallel_block);
  EXPECT_EQ(parallel.config.model.num_kv_heads, parallel.config.model.num_heads);
}

}  // namespace
}  // namespace pgolf

namespace {

TEST(OptionsPage, IsWhatTheProgramPrints) {
  const std::string page = pgolf::read_text(std::filesystem::path(PGOLF_SOURCE_DIR) / "docs/options.md");
  EXPECT_NE(page.find(pgolf::train_options_markdown()), std::string::npos)
      << "run: train_gpt --help-markdown, and put it into docs/options.md";
}

}  // namespace
