#include "pgolf/config/train_options.h"

#include <regex>
#include <set>

#include "config_testing.h"

namespace pgolf {
namespace {

using testing::preset;
using testing::rope_dims_per_layer;
using testing::TemporaryFolder;
using testing::train;
using testing::train_error;

TEST(TrainOptions, DefaultsAreUpstreams) {
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
  const std::map<std::string, std::string> own = {{"ROPE_DIMS", "full"},
                                                  {"ROPE_TABLE_DTYPE", "float32"},
                                                  {"OUT_DIR", "runs"},
                                                  {"ALLOW_OTHER_DATA", "0"},
                                                  {"FALLBACK_DIR", ""},
                                                  {"DEVICE", "auto"},
                                                  {"DTYPE", "auto"},
                                                  {"OPS", "fast"},
                                                  {"CUDA_GRAPHS", "auto"},
                                                  {"MUON_DTYPE", "auto"},
                                                  {"SAVE_EVERY", "0"},
                                                  {"KEEP_LAST", "2"},
                                                  {"EVAL_TOKENS", "0"},
                                                  {"BYTE_COUNT", "rule"},
                                                  {"MICRO_BATCH_TOKENS", "0"},
                                                  {"PARALLEL_PASSES", "0"},
                                                  {"NUM_THREADS", "0"},
                                                  {"WARMDOWN_FRAC", "none"},
                                                  {"BUDGET_BYTES", "16000000"},
                                                  {"PROFILE", "0"},
                                                  {"MIN_STEPS", "0"},
                                                  {"DIST_BACKEND", "auto"},
                                                  {"DIST_TIMEOUT_SECONDS", "300.0"},
                                                  {"CHECK_RANKS", "0"},
                                                  {"GRAD_ACCUM_STEPS", "0"},
                                                  {"DIST_GRADIENT_DTYPE", "auto"}};
  for (const auto& [name, text] : own) EXPECT_EQ(find_option(command.resolved, name).text, text) << name;
  EXPECT_TRUE(command.config.model.widest_rope().full());
  EXPECT_EQ(command.config.model.head_dim(), 64);
  EXPECT_LT(command.config.schedule.warmdown_frac, 0);
}

/// One non-default value per option: each must reach the configuration through both flag and environment.
TEST(TrainOptions, EveryOptionThroughFlagAndEnvironment) {
  const std::map<std::string, std::string> values = {{"VOCAB_SIZE", "2048"},
                                                     {"NUM_LAYERS", "3"},
                                                     {"MODEL_DIM", "256"},
                                                     {"NUM_HEADS", "4"},
                                                     {"NUM_KV_HEADS", "1"},
                                                     {"MLP_MULT", "3.5"},
                                                     {"TIE_EMBEDDINGS", "0"},
                                                     {"TIED_EMBED_INIT_STD", "0.01"},
                                                     {"LOGIT_SOFTCAP", "15.0"},
                                                     {"QK_GAIN_INIT", "2.0"},
                                                     {"ORTHOGONAL_INIT", "1"},
                                                     {"PARALLEL_BLOCK", "1"},
                                                     {"PARALLEL_RESIDUAL_START", "0"},
                                                     {"XSA_LAST_N", "2"},
                                                     {"ATTENTION_WINDOW", "64*2,full"},
                                                     {"LN_SCALE", "1"},
                                                     {"NUM_LOOPS", "4"},
                                                     {"LOOP_START", "1"},
                                                     {"LOOP_END", "2"},
                                                     {"SMEAR_GATE", "1"},
                                                     {"BIGRAM_VOCAB_SIZE", "3072"},
                                                     {"BIGRAM_DIM", "112"},
                                                     {"VE_LAYERS", "0,2"},
                                                     {"VE_DIM", "96"},
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
                                                     {"KEY_OFFSET", "1"},
                                                     {"QK_NORM", "0"},
                                                     {"ROPE_BASE", "5000.0"},
                                                     {"ROPE_TABLE_DTYPE", "bfloat16"},
                                                     {"DATA_PATH", "d"},
                                                     {"TOKENIZER_PATH", "t.model"},
                                                     {"LOADER", "shuffled"},
                                                     {"MICRO_BATCH_TOKENS", "8192"},
                                                     {"PARALLEL_PASSES", "2"},
                                                     {"TRAIN_BATCH_TOKENS", "16384"},
                                                     {"TRAIN_SEQ_LEN", "512"},
                                                     {"VAL_BATCH_SIZE", "8192"},
                                                     {"EVAL_TOKENS", "4096"},
                                                     {"BYTE_COUNT", "decoded"},
                                                     {"EMBED_LR", "0.1"},
                                                     {"MUON_WD", "0.01"},
                                                     {"EMBED_WD", "0.02"},
                                                     {"ADAM_WD", "0.03"},
                                                     {"MUON_ROW_NORMALIZE", "1"},
                                                     {"EVAL_STRIDE", "32"},
                                                     {"TTT_ENABLED", "1"},
                                                     {"TTT_LR", "0.01"},
                                                     {"TTT_EPOCHS", "2"},
                                                     {"TTT_MOMENTUM", "0.8"},
                                                     {"TTT_CHUNK_TOKENS", "1024"},
                                                     {"ENABLE_LOOPING_AT", "0.3"},
                                                     {"LOOP_PHASE2_AT", "0.6"},
                                                     {"ROPE_DROP_AT", "0.8"},
                                                     {"EMA_DECAY", "0.9"},
                                                     {"MIN_LR", "0.1"},
                                                     {"GPTQ_RESERVE_SECONDS", "3.0"},
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
                                                     {"DETERMINISTIC", "1"},
                                                     {"DIST_BACKEND", "gloo"},
                                                     {"DIST_TIMEOUT_SECONDS", "30.0"},
                                                     {"DIST_GRADIENT_DTYPE", "bfloat16"},
                                                     {"GRAD_ACCUM_STEPS", "4"},
                                                     {"CHECK_RANKS", "10"},
                                                     {"OUT_DIR", "o"},
                                                     {"ALLOW_OTHER_DATA", "1"},
                                                     {"FALLBACK_DIR", "f"},
                                                     {"RUN_ID", "r-1"},
                                                     {"TRAIN_LOG_EVERY", "10"},
                                                     {"VAL_LOSS_EVERY", "20"},
                                                     {"SAVE_EVERY", "30"},
                                                     {"KEEP_LAST", "4"},
                                                     {"PROFILE", "6"},
                                                     {"COMPRESSOR", "brotli"},
                                                     {"LOGGERS", "tensorboard"},
                                                     {"HISTOGRAM_EVERY", "50"},
                                                     {"SAMPLE_EVERY", "40"},
                                                     {"SAMPLE_PROMPT", "the"},
                                                     {"SAMPLE_TOKENS", "32"},
                                                     {"BUDGET_BYTES", "1000"},
                                                     {"INT8_KEEP_FLOAT_FP32_NAME_PATTERNS", "c"}};
  std::vector<std::string> flags;
  for (const auto& [name, text] : values) flags.push_back(flag_of(name) + "=" + text);
  for (const TrainCommand& command : {train(flags), train({}, Environment(values.begin(), values.end()))}) {
    // These conflict with others: SKIP_GATES_ENABLED, WARMDOWN_ITERS, ROPE_LAYERS, INIT_STD, OPTIMIZER, WEIGHT_DECAY, LR_SCHEDULE
    // and its two, QUANTIZER and its nine.
    ASSERT_EQ(command.resolved.size(), values.size() + 19);
    for (const auto& [name, text] : values) EXPECT_EQ(find_option(command.resolved, name).text, text) << name;
    const RunConfig& c = command.config;
    EXPECT_EQ(c.model.vocab_size, 2048);
    EXPECT_EQ(c.model.num_layers, 3);
    EXPECT_EQ(c.model.model_dim, 256);
    EXPECT_EQ(c.model.num_heads, 4);
    EXPECT_EQ(c.model.num_kv_heads, 1);
    EXPECT_EQ(c.model.mlp_mult, 3.5);
    EXPECT_TRUE(c.model.orthogonal_init);
    EXPECT_EQ(c.model.parallel_residual_start, 0);
    EXPECT_EQ(c.model.xsa_last_n, 2);
    EXPECT_TRUE(c.model.ln_scale);
    EXPECT_EQ(c.model.num_loops, 4);
    EXPECT_EQ(c.model.loop_start, 1);
    EXPECT_EQ(c.model.loop_end, 2);
    EXPECT_TRUE(c.model.smear_gate);
    EXPECT_EQ(c.model.bigram_vocab_size, 3072);
    EXPECT_EQ(c.model.bigram_dim, 112);
    EXPECT_EQ(c.model.ve_layers, (std::vector<int>{0, 2}));
    EXPECT_EQ(c.model.ve_dim, 96);
    EXPECT_FALSE(c.model.tie_embeddings);
    EXPECT_EQ(c.model.tied_embed_init_std, 0.01);
    EXPECT_EQ(c.model.logit_softcap, 15.0);
    EXPECT_EQ(c.model.qk_gain_init, 2.0);
    EXPECT_EQ(c.model.widest_rope().rope_dims, 16);
    EXPECT_EQ(c.model.head_dim(), 64);
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
    EXPECT_EQ(c.data.byte_counting, ByteCounting::decoded);
    EXPECT_EQ(c.data.loader, LoaderChoice::shuffled);
    EXPECT_EQ(c.score.eval_stride, 32);
    EXPECT_TRUE(c.score.ttt.enabled);
    EXPECT_EQ(c.score.ttt.lr, 0.01);
    EXPECT_EQ(c.score.ttt.epochs, 2);
    EXPECT_EQ(c.score.ttt.momentum, 0.8);
    EXPECT_EQ(c.score.ttt.chunk_tokens, 1024);
    EXPECT_EQ(c.optim.muon_wd, 0.01);
    EXPECT_EQ(c.optim.embed_wd, 0.02);
    EXPECT_EQ(c.optim.adam_wd, 0.03);
    EXPECT_TRUE(c.optim.muon_row_normalize);
    EXPECT_EQ(c.optim.ema_decay, 0.9);
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
    EXPECT_EQ(c.dist.backend, DistBackend::gloo);
    EXPECT_EQ(c.dist.timeout_seconds, 30.0);
    EXPECT_EQ(c.dist.gradient_dtype, DtypeChoice::bfloat16);
    EXPECT_EQ(c.dist.grad_accum_steps, 4);
    EXPECT_EQ(c.dist.check_ranks, 10);
    EXPECT_EQ(c.schedule.iterations, 100);
    EXPECT_EQ(c.schedule.max_wallclock_seconds, 60.0);
    EXPECT_EQ(c.schedule.min_steps, 150);
    EXPECT_EQ(c.schedule.warmup_steps, 2);
    EXPECT_EQ(c.schedule.warmdown_frac, 0.4);
    EXPECT_EQ(c.schedule.min_lr, 0.1);
    EXPECT_EQ(c.schedule.enable_looping_at, 0.3);
    EXPECT_EQ(c.schedule.loop_phase2_at, 0.6);
    EXPECT_EQ(c.schedule.gptq_reserve_seconds, 3.0);
    EXPECT_EQ(c.runtime.seed, 7);
    EXPECT_EQ(c.runtime.device, DeviceChoice::cpu);
    EXPECT_EQ(c.runtime.dtype, DtypeChoice::bfloat16);
    EXPECT_EQ(c.runtime.ops, OpsPath::reference);
    EXPECT_EQ(c.runtime.num_threads, 2);
    EXPECT_EQ(c.runtime.cuda_graphs, SwitchChoice::off);
    EXPECT_TRUE(c.runtime.deterministic);
    EXPECT_TRUE(c.data.allow_other_data);
    EXPECT_EQ(c.output.out_dir, "o");
    EXPECT_EQ(c.output.fallback_dir, "f");
    EXPECT_EQ(c.output.run_id, "r-1");
    EXPECT_TRUE(c.output.run_id_given);
    EXPECT_EQ(c.output.train_log_every, 10);
    EXPECT_EQ(c.output.val_loss_every, 20);
    EXPECT_EQ(c.output.save_every, 30);
    EXPECT_EQ(c.output.keep_last, 4);
    EXPECT_EQ(c.output.profile_steps, 6);
    EXPECT_EQ(c.output.artifact.codec, Codec::brotli);
    EXPECT_EQ(c.output.budget_bytes, 1000);
    EXPECT_EQ(c.output.int8_keep_float_patterns, (std::vector<std::string>{"c"}));
  }
  EXPECT_EQ(train({"--warmdown-iters=5"}).config.schedule.warmdown_iters, 5);
}

TEST(TrainOptions, TypoInTheEnvironmentWarns) {
  const TrainCommand command = train({}, {{"ROPE_DIM", "16"}});
  EXPECT_TRUE(command.config.model.widest_rope().full());
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
  EXPECT_EQ(rope_dims_per_layer(command), (std::vector<int>{64, 64, 0, 64}));
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

TEST(TrainOptions, ConfigEnvReproducesTheConfiguration) {
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
      resume_differences(stored, train({"--rope-dims=16", "--train-log-every=1", "--num-threads=1", "--out-dir=x"}).resolved)
          .empty());
  EXPECT_EQ(
      resume_differences(stored, train({"--rope-dims=32", "--seed=2"}).resolved),
      (std::vector<std::string>{"ROPE_DIMS: checkpoint has 16, this run has 32", "SEED: checkpoint has 1337, this run has 2"}));
  // 64 of 64 dims is "full", however it was written.
  stored["ROPE_DIMS"] = "full";
  EXPECT_TRUE(resume_differences(stored, train({"--rope-dims=64"}).resolved).empty());
}

}  // namespace
}  // namespace pgolf
