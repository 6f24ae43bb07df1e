#include "pgolf/config/train_options.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <initializer_list>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/config/micro_steps.h"
#include "pgolf/config/parse.h"
#include "pgolf/config/rope_options.h"
#include "pgolf/config/shape_options.h"

namespace pgolf {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 40;
constexpr int kMaxDim = 65'536;

constexpr Interval kAtLeast0{.low = 0};
constexpr Interval kAbove0{.low = 0, .low_open = true};
constexpr Interval kFrom0To1{.low = 0, .high = 1};
constexpr Interval kFrom0Below1{.low = 0, .high = 1, .high_open = true};

OptionTable train_table(TrainCommand& command, RopeRequest& rope) {
  OptionTable table("train_gpt [--config FILE]... [--OPTION VALUE]...",
                    "Trains a small GPT on token shards, and saves it as an artifact of at most BUDGET_BYTES.");
  table.accept_config_files();
  table.accept_environment();
  table.add_action({.name = "print-config",
                    .field = &command.print_config,
                    .help = "Print every option's value and where it came from, and stop."});
  table.add_action(
      {.name = "dry-run",
       .field = &command.dry_run,
       .help = "Print the configuration, parameter count, memory and artifact estimates and token counts, and stop."});
  table.add_action(
      {.name = "resume",
       .field = &command.resume,
       .help = "Continue from a training checkpoint (auto: the newest of RUN_ID, or of OUT_DIR). Give the run's settings too: "
               "--config RUN_FOLDER/config.env.",
       .label = "auto|PATH",
       .implied = "auto"});
  table.add_action({.name = "write-source",
                    .field = &command.write_source,
                    .help = "Write the source bundle whose size counts as code bytes, and stop.",
                    .label = "FILE"});
  table.add_action({.name = "help-markdown",
                    .field = &command.help_markdown,
                    .help = "Print the options as Markdown and stop.",
                    .stops = true});
  table.add_action({.name = "version", .field = &command.version, .help = "Print the version and stop.", .stops = true});
  table.add_action({.name = "help", .field = &command.help, .help = "Print this and stop.", .stops = true});

  constexpr auto must_match = Resume::must_match;
  const auto dtype_names = std::vector<std::pair<std::string, DtypeChoice>>{
      {"auto", DtypeChoice::automatic}, {"float32", DtypeChoice::float32}, {"bfloat16", DtypeChoice::bfloat16}};
  using bind::integer, bind::number;

  auto& model = command.config.model;
  table.group("Model");
  table.add("VOCAB_SIZE", integer(&model.vocab_size, 1, 65'536), "pieces", "Must equal the tokenizer's.", must_match);
  table.add("NUM_LAYERS", integer(&model.num_layers, 1, 1024), "blocks", "The first half are the encoder of a U-Net.",
            must_match);
  table.add("MODEL_DIM", integer(&model.model_dim, 2, kMaxDim), "lanes", "Width of the residual stream.", must_match);
  table.add("NUM_HEADS", integer(&model.num_heads, 1, kMaxDim), "heads", "Query heads; must divide MODEL_DIM.", must_match);
  table.add("NUM_KV_HEADS", integer(&model.num_kv_heads, 1, kMaxDim), "heads", "Key and value heads; must divide NUM_HEADS.",
            must_match);
  table.add("MLP_MULT", integer(&model.mlp_mult, 1, 256), "", "Hidden width of the MLP over MODEL_DIM.", must_match);
  table.add("TIE_EMBEDDINGS", bind::boolean(&model.tie_embeddings), "", "The token embedding is the output head too.",
            must_match);
  table.add("TIED_EMBED_INIT_STD", number(&model.tied_embed_init_std, kAtLeast0), "",
            "Standard deviation of the initial embedding when tied.", must_match);
  table.add("QK_GAIN_INIT", number(&model.qk_gain_init, {}), "", "Initial gain of every query head.", must_match);
  table.add("INIT_STD", bind::number_or_none(&model.init_std, kAbove0), "",
            "Standard deviation of all initial matrices and embeddings. none: the Python program's way, in which projections "
            "begin at zero.",
            must_match);
  add_activation_options(table, &model, must_match);
  const ShapeBindings shape(&model);
  table.add("NORM_WEIGHTS", shape.norm_weights, "", "A learned factor per lane after the norms of blocks and output head.",
            must_match);
  table.add("UNET_SKIPS", shape.unet_skips, "", "Skip connections from the first half of the blocks to the second.", must_match);
  table.add("RESID_MIX", shape.resid_mix, "", "Every block begins with a learned mix of its input and the token embedding.",
            must_match);

  table.group("Rotary embedding");
  add_rope_options(table, &model, &rope, must_match);

  auto& data = command.config.data;
  table.group("Data");
  table.add("DATA_PATH", bind::text(&data.data_path), "", "Folder of fineweb_train_*.bin and fineweb_val_*.bin.");
  table.add("TOKENIZER_PATH", bind::text(&data.tokenizer_path), "", "SentencePiece model, a .model file.");
  table.add("TRAIN_BATCH_TOKENS", integer(&data.train_batch_tokens, 1, kMaxTokens), "tokens",
            "Per optimiser step, over all ranks; 8 micro-steps of whole sequences.", must_match);
  table.add("MICRO_BATCH_TOKENS", integer(&data.micro_batch_tokens, 0, kMaxTokens), "tokens",
            "Of one pass; a power of two times an eighth of TRAIN_BATCH_TOKENS. 0: an eighth, on the CPU with OPS=fast more if "
            "that is little.",
            must_match);
  table.add(
      "PARALLEL_PASSES", integer(&data.parallel_passes, 0, kMicroSteps), "passes",
      "Under way at a time on the CPU with OPS=fast, a thread each: 1, 2, 4 or 8. Takes memory for that many. 0: as many as "
      "there are threads if the model is small.");
  table.add("TRAIN_SEQ_LEN", integer(&data.train_seq_len, 1, 1 << 24), "tokens", "Length of a sequence.", must_match);
  table.add("VAL_BATCH_SIZE", integer(&data.val_batch_size, 1, kMaxTokens), "tokens",
            "Of validation, over all ranks and micro-steps; at least 8 * TRAIN_SEQ_LEN.");
  table.add("EVAL_TOKENS", integer(&data.eval_tokens, 0), "tokens", "Validation tokens that are scored; 0 = all.");

  auto& optim = command.config.optim;
  table.group("Optimisers");
  table.add("OPTIMIZER",
            bind::choice<OptimizerChoice>(&optim.optimizer, {{"muon", OptimizerChoice::muon}, {"adamw", OptimizerChoice::adamw}}),
            "", "Of the matrices of the blocks; all else has Adam. AdamW wants a MATRIX_LR far below Muon's default.",
            must_match);
  table.add("WEIGHT_DECAY", number(&optim.weight_decay, kAtLeast0), "",
            "OPTIMIZER=adamw: of matrices and embeddings, times their learning rate.", must_match);
  table.add("EMBED_LR", number(&optim.embed_lr, kAtLeast0), "", "Adam, token embedding, when not tied.", must_match);
  table.add("HEAD_LR", number(&optim.head_lr, kAtLeast0), "", "Adam, output head, when not tied.", must_match);
  table.add("TIED_EMBED_LR", number(&optim.tied_embed_lr, kAtLeast0), "", "Adam, token embedding, when tied.", must_match);
  table.add("MATRIX_LR", number(&optim.matrix_lr, kAtLeast0), "", "Muon or AdamW, the matrices of the blocks.", must_match);
  table.add("SCALAR_LR", number(&optim.scalar_lr, kAtLeast0), "", "Adam, vectors and scalars.", must_match);
  table.add("MUON_MOMENTUM", number(&optim.muon_momentum, kFrom0To1), "", "Muon's momentum after its warm-up.", must_match);
  table.add("MUON_MOMENTUM_WARMUP_START", number(&optim.muon_momentum_warmup_start, kFrom0To1), "", "Momentum at step 0.",
            must_match);
  table.add("MUON_MOMENTUM_WARMUP_STEPS", integer(&optim.muon_momentum_warmup_steps, 0), "steps", "Length of the linear warm-up.",
            must_match);
  table.add("MUON_BACKEND_STEPS", integer(&optim.muon_backend_steps, 0, 1000), "iterations",
            "Newton-Schulz iterations per update.", must_match);
  table.add("MUON_DTYPE", bind::choice(&optim.muon_dtype, dtype_names), "",
            "Of Newton-Schulz and the update; auto = DTYPE. The Python program always uses bfloat16.", must_match);
  table.add("BETA1", number(&optim.beta1, kFrom0Below1), "", "Adam, decay of the first moment.", must_match);
  table.add("BETA2", number(&optim.beta2, kFrom0Below1), "", "Adam, decay of the second moment.", must_match);
  table.add("ADAM_EPS", number(&optim.adam_eps, kAtLeast0), "", "Adam, added to the denominator.", must_match);
  table.add("GRAD_CLIP_NORM", number(&optim.grad_clip_norm, kAtLeast0), "", "Largest norm over all gradients; 0 = off.",
            must_match);
  table.add("CONTROL_TENSOR_NAME_PATTERNS", bind::list(&optim.control_patterns), "",
            "Parameters whose names contain one of these stay float32 and go to Adam.", must_match);

  auto& schedule = command.config.schedule;
  table.group("Schedule");
  table.add("ITERATIONS", integer(&schedule.iterations, 0), "steps", "Optimiser steps at most.", must_match);
  table.add("MAX_WALLCLOCK_SECONDS", number(&schedule.max_wallclock_seconds, kAtLeast0), "seconds",
            "Of training, without validation; 0 = no cap.", must_match);
  table.add("MIN_STEPS", integer(&schedule.min_steps, 0), "steps",
            "Before training, time a few steps; if MAX_WALLCLOCK_SECONDS would hold fewer than this many (or ITERATIONS), take "
            "fewer tokens a step, then fewer blocks. TRAIN_BATCH_TOKENS and NUM_LAYERS, however given, are the most that is "
            "taken. 0 = off.");
  table.add("WARMUP_STEPS", integer(&schedule.warmup_steps, 0), "steps",
            "Run first to warm the machine up, then undone; not timed, not repeated on --resume.");
  table.add("LR_SCHEDULE",
            bind::choice<LrSchedule>(&schedule.lr_schedule, {{"golf", LrSchedule::golf}, {"cosine", LrSchedule::cosine}}), "",
            "golf: full learning rate, then a linear fall to 0. cosine: a linear rise, then half a cosine.", must_match);
  table.add("LR_WARMUP_FRAC", number(&schedule.lr_warmup_frac, kFrom0Below1), "",
            "LR_SCHEDULE=cosine: part of the budget (time, or iterations without a cap) in which the learning rate rises.",
            must_match);
  table.add("LR_MIN_SCALE", number(&schedule.lr_min_scale, kFrom0To1), "",
            "LR_SCHEDULE=cosine: the last learning rate over the largest.", must_match);
  table.add("WARMDOWN_ITERS", integer(&schedule.warmdown_iters, 0), "steps",
            "LR_SCHEDULE=golf: the learning rate falls linearly to 0 over the last of these.", must_match);
  table.add("WARMDOWN_FRAC", bind::number_or_none(&schedule.warmdown_frac, kFrom0To1), "",
            "The same as a fraction of the budget, instead of WARMDOWN_ITERS.", must_match);

  auto& runtime = command.config.runtime;
  table.group("Machine");
  table.add("SEED", integer(&runtime.seed, 0, 4'294'967'295), "", "Seed of the initial weights.", must_match);
  table.add("DEVICE",
            bind::choice<DeviceChoice>(
                &runtime.device, {{"auto", DeviceChoice::automatic}, {"cpu", DeviceChoice::cpu}, {"cuda", DeviceChoice::cuda}}),
            "", "auto: a GPU if there is one.");
  table.add("DTYPE", bind::choice(&runtime.dtype, dtype_names), "", "Of the computation; auto: bfloat16 where it is fast.",
            must_match);
  table.add("OPS", bind::choice<OpsPath>(&runtime.ops, {{"fast", OpsPath::fast}, {"reference", OpsPath::reference}}), "",
            "reference: the plain definition of every operation.", must_match);
  table.add("NUM_THREADS", integer(&runtime.num_threads, 0, 4096), "threads",
            "0 = OMP_NUM_THREADS, else the physical cores this process may use.");
  table.add("CUDA_GRAPHS",
            bind::choice<SwitchChoice>(&runtime.cuda_graphs,
                                       {{"auto", SwitchChoice::automatic}, {"on", SwitchChoice::on}, {"off", SwitchChoice::off}}),
            "", "Record a step's device work and replay it; auto: on a GPU with OPS=fast.");
  table.add("DETERMINISTIC", bind::boolean(&runtime.deterministic), "",
            "1: the same bits from run to run on a GPU as well, with slower attention. A CPU gives them anyway.");

  auto& output = command.config.output;
  table.group("Output");
  table.add("OUT_DIR", bind::text(&output.out_dir), "", "Folder of run folders.");
  Binding run_id = bind::text(&output.run_id);
  run_id.default_text = "time and a short hash";
  table.add("RUN_ID", run_id, "", "Name of the run's folder: letters, digits, '.', '_' and '-'.");
  table.add("TRAIN_LOG_EVERY", integer(&output.train_log_every, 0), "steps",
            "Steps between lines of training loss (the first ten always have one); 0 = never.");
  table.add("VAL_LOSS_EVERY", integer(&output.val_loss_every, 0), "steps",
            "Steps between validations, before step 1 too; 0 = only at the end.");
  table.add("SAVE_EVERY", integer(&output.save_every, 0), "steps",
            "Steps between training checkpoints; 0 = only when interrupted.");
  table.add("KEEP_LAST", integer(&output.keep_last, 1), "checkpoints", "Newest training checkpoints kept.");
  table.add("PROFILE", integer(&output.profile_steps, 0, 1000), "steps",
            "Profile as many after the first three: a table of operations, and a Chrome trace; 0 = off.");
  table.add("BUDGET_BYTES", integer(&output.budget_bytes, 1), "bytes", "Most that artifact and code may take together.");
  Binding keep_float = bind::list(&output.int8_keep_float_patterns);
  keep_float.default_text = "CONTROL_TENSOR_NAME_PATTERNS";
  table.add("INT8_KEEP_FLOAT_FP32_NAME_PATTERNS", keep_float, "",
            "Small tensors whose names contain one of these are float32 in the artifact.");
  return table;
}

/// "6144 and 8192", the multiples of unit around value; one of them if value is below the first.
std::string nearest_multiples(int64_t value, int64_t unit) {
  const int64_t below = value / unit * unit;
  const std::string above = std::to_string(below + unit);
  return below > 0 ? "values are " + std::to_string(below) + " and " + above : "value is " + above;
}

void check_model(const ModelConfig& model, const std::vector<ResolvedOption>& options) {
  if (model.model_dim % model.num_heads != 0) {
    refuse(options, {"MODEL_DIM", "NUM_HEADS"}, "the heads must divide the width",
           format("with %d heads the nearest legal MODEL_DIM %s", model.num_heads,
                  nearest_multiples(model.model_dim, 2 * int64_t{model.num_heads}).c_str()));
  }
  if (model.head_dim() % 2 != 0) {
    refuse(options, {"MODEL_DIM", "NUM_HEADS"},
           format("a head has %d lanes, and rotation needs an even number", model.head_dim()),
           format("with %d heads the nearest legal MODEL_DIM %s", model.num_heads,
                  nearest_multiples(model.model_dim, 2 * int64_t{model.num_heads}).c_str()));
  }
  if (model.num_heads % model.num_kv_heads != 0) {
    refuse(options, {"NUM_HEADS", "NUM_KV_HEADS"}, "the key and value heads must divide the query heads");
  }
  check_shape(model, options);
  if (model.init_std > 0 && model.tied_embed_init_std != ModelConfig().tied_embed_init_std)
    refuse(options, {"TIED_EMBED_INIT_STD", "INIT_STD"}, "both set the initial embedding", "give one of them");
}

void check_data(const DataConfig& data, const std::vector<ResolvedOption>& options) {
  const int64_t unit = int64_t{kMicroSteps} * data.train_seq_len;
  if (data.train_batch_tokens % unit != 0) {
    refuse(options, {"TRAIN_BATCH_TOKENS", "TRAIN_SEQ_LEN"}, "a step is 8 micro-steps of whole sequences",
           format("TRAIN_BATCH_TOKENS must be a multiple of 8 * %d = %lld; the nearest legal %s", data.train_seq_len,
                  static_cast<long long>(unit), nearest_multiples(data.train_batch_tokens, unit).c_str()));
  }
  const int64_t micro_step = data.train_batch_tokens / kMicroSteps, passes = data.micro_batch_tokens / micro_step;
  if (data.micro_batch_tokens != 0 &&
      (data.micro_batch_tokens % micro_step != 0 || passes > kMicroSteps || kMicroSteps % passes != 0)) {
    refuse(options, {"MICRO_BATCH_TOKENS", "TRAIN_BATCH_TOKENS"}, "a pass takes 1, 2, 4 or 8 eighths of the batch",
           format("MICRO_BATCH_TOKENS must be %lld, %lld, %lld or %lld", static_cast<long long>(micro_step),
                  static_cast<long long>(2 * micro_step), static_cast<long long>(4 * micro_step),
                  static_cast<long long>(8 * micro_step)));
  }
  const int64_t at_once = std::max(data.parallel_passes, 1);
  if (kMicroSteps % at_once != 0 || (data.micro_batch_tokens != 0 && kMicroSteps / passes < at_once)) {
    refuse(options, {"PARALLEL_PASSES", "MICRO_BATCH_TOKENS", "TRAIN_BATCH_TOKENS"},
           "1, 2, 4 or 8 passes can be under way at a time, and no more than a step has");
  }
  if (data.val_batch_size / kMicroSteps < data.train_seq_len) {
    refuse(options, {"VAL_BATCH_SIZE", "TRAIN_SEQ_LEN"}, "a micro-step's eighth of the batch must hold a sequence",
           format("VAL_BATCH_SIZE must be at least 8 * %d = %lld", data.train_seq_len, static_cast<long long>(unit)));
  }
  if (!data.tokenizer_path.ends_with(".model")) {
    refuse(options, {"TOKENIZER_PATH"}, "the tokenizer must be a SentencePiece .model file");
  }
}

void check_run_id(const std::string& run_id, const std::vector<ResolvedOption>& options) {
  constexpr size_t max_length = 128;
  const auto legal = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  };
  if (run_id.size() > max_length || !std::all_of(run_id.begin(), run_id.end(), legal)) {
    refuse(options, {"RUN_ID"}, format("it may have up to %zu letters, digits, '.', '_' and '-', no slash", max_length));
  }
  if (run_id[0] == '.' || run_id[0] == '-') refuse(options, {"RUN_ID"}, "it must begin with a letter, a digit or '_'");
}

void check_runtime(const RuntimeConfig& runtime, const std::vector<ResolvedOption>& options) {
  if (runtime.cuda_graphs == SwitchChoice::on && runtime.ops == OpsPath::reference) {
    refuse(options, {"CUDA_GRAPHS", "OPS"}, "the reference operations read numbers from the host at every step",
           "say CUDA_GRAPHS=auto or OPS=fast");
  }
}

void check_optim(const OptimConfig& optim, std::vector<std::string>& warnings, const std::vector<ResolvedOption>& options) {
  const OptimConfig fresh;
  const std::string no_effect = "this has no effect with that optimiser";
  if (optim.optimizer == OptimizerChoice::muon) {
    if (optim.weight_decay != 0) refuse(options, {"WEIGHT_DECAY", "OPTIMIZER"}, no_effect, "say OPTIMIZER=adamw");
    return;
  }
  const auto must_be_default = [&](const char* name, bool is_default) {
    if (!is_default) refuse(options, {name, "OPTIMIZER"}, no_effect, "leave it out, or say OPTIMIZER=muon");
  };
  must_be_default("MUON_MOMENTUM", optim.muon_momentum == fresh.muon_momentum);
  must_be_default("MUON_MOMENTUM_WARMUP_START", optim.muon_momentum_warmup_start == fresh.muon_momentum_warmup_start);
  must_be_default("MUON_MOMENTUM_WARMUP_STEPS", optim.muon_momentum_warmup_steps == fresh.muon_momentum_warmup_steps);
  must_be_default("MUON_BACKEND_STEPS", optim.muon_backend_steps == fresh.muon_backend_steps);
  must_be_default("MUON_DTYPE", optim.muon_dtype == fresh.muon_dtype);
  if (find_option(options, "MATRIX_LR").source == Source::default_value) {
    warnings.push_back(format("MATRIX_LR=%g is Muon's default; with OPTIMIZER=adamw about 0.001 is usual", optim.matrix_lr));
  }
}

void check_schedule(const ScheduleConfig& schedule, const std::vector<ResolvedOption>& options) {
  const ScheduleConfig fresh;
  const bool cosine = schedule.lr_schedule == LrSchedule::cosine;
  const auto must_be_default = [&](const char* name, bool is_default) {
    if (!is_default) refuse(options, {name, "LR_SCHEDULE"}, "this has no effect with that schedule");
  };
  must_be_default("LR_WARMUP_FRAC", cosine || schedule.lr_warmup_frac == fresh.lr_warmup_frac);
  must_be_default("LR_MIN_SCALE", cosine || schedule.lr_min_scale == fresh.lr_min_scale);
  must_be_default("WARMDOWN_ITERS", !cosine || schedule.warmdown_iters == fresh.warmdown_iters);
  must_be_default("WARMDOWN_FRAC", !cosine || schedule.warmdown_frac == fresh.warmdown_frac);
  if (schedule.min_steps > 0 && schedule.max_wallclock_seconds == 0) {
    refuse(options, {"MIN_STEPS", "MAX_WALLCLOCK_SECONDS"}, "without a cap on the time any number of steps fits",
           "give MAX_WALLCLOCK_SECONDS, or say MIN_STEPS=0");
  }
}

void resolve_warmdown(std::vector<ResolvedOption>& options) {
  const bool iters_given = find_option(options, "WARMDOWN_ITERS").source != Source::default_value;
  if (find_option(options, "WARMDOWN_FRAC").text == "none") return;
  if (iters_given) {
    refuse(options, {"WARMDOWN_FRAC", "WARMDOWN_ITERS"}, "these are two ways to say the same and contradict each other",
           "leave one out, or say WARMDOWN_FRAC=none");
  }
  // Without effect, and beside WARMDOWN_FRAC a contradiction when read back.
  find_option(options, "WARMDOWN_ITERS").replayable = false;
}

void resolve_keep_float_patterns(TrainCommand& command) {
  ResolvedOption& option = find_option(command.resolved, "INT8_KEEP_FLOAT_FP32_NAME_PATTERNS");
  if (option.source != Source::default_value) return;
  command.config.output.int8_keep_float_patterns = command.config.optim.control_patterns;
  option.text = find_option(command.resolved, "CONTROL_TENSOR_NAME_PATTERNS").text;
}

void resolve_run_id(TrainCommand& command) {
  ResolvedOption& option = find_option(command.resolved, "RUN_ID");
  OutputConfig& output = command.config.output;
  output.run_id_given = option.source != Source::default_value;
  if (output.run_id_given) {
    check_run_id(output.run_id, command.resolved);
  } else {
    output.run_id = make_run_id(command.resolved);
  }
  option.text = output.run_id;
  option.replayable = false;  // a run's folder is not used again
}

}  // namespace

TrainCommand resolve_train_command(int argc, const char* const* argv, const Environment& environment,
                                   const Overrides& overrides) {
  TrainCommand command;
  RopeRequest rope;
  Resolution resolution = train_table(command, rope).resolve(argc, argv, environment, overrides);
  if (resolution.stopped) return command;
  command.resolved = std::move(resolution.options);
  command.warnings = std::move(resolution.warnings);

  check_model(command.config.model, command.resolved);
  check_data(command.config.data, command.resolved);
  check_optim(command.config.optim, command.warnings, command.resolved);
  check_schedule(command.config.schedule, command.resolved);
  check_runtime(command.config.runtime, command.resolved);
  resolve_rope(rope, &command.config.model, &command.resolved, &command.warnings);
  resolve_warmdown(command.resolved);
  resolve_keep_float_patterns(command);
  resolve_run_id(command);
  return command;
}

std::string train_help() {
  TrainCommand command;
  RopeRequest rope;
  return train_table(command, rope).help();
}

std::string train_options_markdown() {
  TrainCommand command;
  RopeRequest rope;
  return train_table(command, rope).markdown();
}

std::string make_run_id(const std::vector<ResolvedOption>& options) {
  static std::atomic<uint64_t> calls{0};
  const auto now = std::chrono::system_clock::now();
  std::string unique =
      std::to_string(now.time_since_epoch().count()) + " " + std::to_string(getpid()) + " " + std::to_string(++calls);
  for (const auto& option : options) unique += "\n" + option.name + "=" + option.text;
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &utc);
  return std::string(stamp) + "-" + sha256_hex(as_bytes(unique)).substr(0, 6);
}

}  // namespace pgolf
