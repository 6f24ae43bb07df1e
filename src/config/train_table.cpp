#include "train_table.h"

#include "pgolf/config/micro_steps.h"
#include "pgolf/config/model_options.h"

namespace pgolf {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 40;

constexpr Interval kAtLeast0{.low = 0};
constexpr Interval kFrom0To1{.low = 0, .high = 1};
constexpr Interval kFrom0Below1{.low = 0, .high = 1, .high_open = true};

void add_actions(OptionTable& table, TrainCommand* command) {
  table.add_action({.name = "print-config",
                    .field = &command->print_config,
                    .help = "Print every option's value and where it came from, and stop."});
  table.add_action(
      {.name = "dry-run",
       .field = &command->dry_run,
       .help = "Print the configuration, parameter count, memory and artifact estimates and token counts, and stop."});
  table.add_action(
      {.name = "resume",
       .field = &command->resume,
       .help = "Continue from a training checkpoint (auto: the newest of RUN_ID, or of OUT_DIR). Give the run's settings too: "
               "--config RUN_FOLDER/config.env.",
       .label = "auto|PATH",
       .implied = "auto"});
  table.add_action({.name = "write-source",
                    .field = &command->write_source,
                    .help = "Write the source bundle whose size counts as code bytes, and stop.",
                    .label = "FILE"});
  table.add_action({.name = "help-markdown",
                    .field = &command->help_markdown,
                    .help = "Print the options as Markdown and stop.",
                    .stops = true});
  table.add_action({.name = "version", .field = &command->version, .help = "Print the version and stop.", .stops = true});
  table.add_action({.name = "help", .field = &command->help, .help = "Print this and stop.", .stops = true});
}

void add_model(OptionTable& table, ModelConfig* model, RopeRequest* rope) {
  const auto add = [&](const std::vector<ModelOption>& options) {
    for (const auto& option : options) table.add(option.name, option.value, option.unit, option.help);
  };
  table.group("Model", Resume::must_match);
  add(shape_options(model));
  table.group("Rotary embedding", Resume::must_match);
  add(rotary_options(model, rope));
}

void add_data(OptionTable& table, DataConfig& data) {
  table.group("Data");
  table.add("DATA_PATH", bind::text(&data.data_path), "", "Folder of fineweb_train_*.bin and fineweb_val_*.bin.");
  table.add("TOKENIZER_PATH", bind::text(&data.tokenizer_path), "", "SentencePiece model, a .model file.");
  table.add("TRAIN_BATCH_TOKENS", bind::integer(&data.train_batch_tokens, 1, kMaxTokens), "tokens",
            "Per optimiser step, over all ranks; 8 micro-steps of whole sequences.", Resume::must_match);
  table.add("MICRO_BATCH_TOKENS", bind::integer(&data.micro_batch_tokens, 0, kMaxTokens), "tokens",
            "Of one pass; a power of two times an eighth of TRAIN_BATCH_TOKENS. 0: an eighth, on the CPU with OPS=fast more if "
            "that is little.",
            Resume::must_match);
  table.add(
      "PARALLEL_PASSES", bind::integer(&data.parallel_passes, 0, kMicroSteps), "passes",
      "Under way at a time on the CPU with OPS=fast, a thread each: 1, 2, 4 or 8. Takes memory for that many. 0: as many as "
      "there are threads if the model is small.");
  table.add("TRAIN_SEQ_LEN", bind::integer(&data.train_seq_len, 1, 1 << 24), "tokens", "Length of a sequence.",
            Resume::must_match);
  table.add("VAL_BATCH_SIZE", bind::integer(&data.val_batch_size, 1, kMaxTokens), "tokens",
            "Of validation, over all ranks and micro-steps; at least 8 * TRAIN_SEQ_LEN.");
  table.add("EVAL_TOKENS", bind::integer(&data.eval_tokens, 0), "tokens", "Validation tokens that are scored; 0 = all.");
}

void add_optimizers(OptionTable& table, OptimConfig& optim) {
  table.group("Optimisers", Resume::must_match);
  table.add("OPTIMIZER", bind::choice(&optim.optimizer), "",
            "Of the matrices of the blocks; all else has Adam. AdamW wants a MATRIX_LR far below Muon's default.");
  table.add("WEIGHT_DECAY", bind::number(&optim.weight_decay, kAtLeast0), "",
            "OPTIMIZER=adamw: of matrices and embeddings, times their learning rate.");
  table.add("EMBED_LR", bind::number(&optim.embed_lr, kAtLeast0), "", "Adam, token embedding, when not tied.");
  table.add("HEAD_LR", bind::number(&optim.head_lr, kAtLeast0), "", "Adam, output head, when not tied.");
  table.add("TIED_EMBED_LR", bind::number(&optim.tied_embed_lr, kAtLeast0), "", "Adam, token embedding, when tied.");
  table.add("MATRIX_LR", bind::number(&optim.matrix_lr, kAtLeast0), "", "Muon or AdamW, the matrices of the blocks.");
  table.add("SCALAR_LR", bind::number(&optim.scalar_lr, kAtLeast0), "", "Adam, vectors and scalars.");
  table.add("MUON_MOMENTUM", bind::number(&optim.muon_momentum, kFrom0To1), "", "Muon's momentum after its warm-up.");
  table.add("MUON_MOMENTUM_WARMUP_START", bind::number(&optim.muon_momentum_warmup_start, kFrom0To1), "", "Momentum at step 0.");
  table.add("MUON_MOMENTUM_WARMUP_STEPS", bind::integer(&optim.muon_momentum_warmup_steps, 0), "steps",
            "Length of the linear warm-up.");
  table.add("MUON_BACKEND_STEPS", bind::integer(&optim.muon_backend_steps, 0, 1000), "iterations",
            "Newton-Schulz iterations per update.");
  table.add("MUON_DTYPE", bind::choice(&optim.muon_dtype), "",
            "Of Newton-Schulz and the update; auto = DTYPE. The Python program always uses bfloat16.");
  table.add("BETA1", bind::number(&optim.beta1, kFrom0Below1), "", "Adam, decay of the first moment.");
  table.add("BETA2", bind::number(&optim.beta2, kFrom0Below1), "", "Adam, decay of the second moment.");
  table.add("ADAM_EPS", bind::number(&optim.adam_eps, kAtLeast0), "", "Adam, added to the denominator.");
  table.add("GRAD_CLIP_NORM", bind::number(&optim.grad_clip_norm, kAtLeast0), "", "Largest norm over all gradients; 0 = off.");
  table.add("CONTROL_TENSOR_NAME_PATTERNS", bind::list(&optim.control_patterns), "",
            "Parameters whose names contain one of these stay float32 and go to Adam.");
}

void add_schedule(OptionTable& table, ScheduleConfig& schedule) {
  table.group("Schedule", Resume::must_match);
  table.add("ITERATIONS", bind::integer(&schedule.iterations, 0), "steps", "Optimiser steps at most.");
  table.add("MAX_WALLCLOCK_SECONDS", bind::number(&schedule.max_wallclock_seconds, kAtLeast0), "seconds",
            "Of training, without validation; 0 = no cap.");
  table.add("MIN_STEPS", bind::integer(&schedule.min_steps, 0), "steps",
            "Before training, time a few steps; if MAX_WALLCLOCK_SECONDS would hold fewer than this many (or ITERATIONS), take "
            "fewer tokens a step, then fewer blocks. TRAIN_BATCH_TOKENS and NUM_LAYERS, however given, are the most that is "
            "taken. 0 = off.",
            Resume::may_differ);
  table.add("WARMUP_STEPS", bind::integer(&schedule.warmup_steps, 0), "steps",
            "Run first to warm the machine up, then undone; not timed, not repeated on --resume.", Resume::may_differ);
  table.add("LR_SCHEDULE", bind::choice(&schedule.lr_schedule), "",
            "golf: full learning rate, then a linear fall to 0. cosine: a linear rise, then half a cosine.");
  table.add("LR_WARMUP_FRAC", bind::number(&schedule.lr_warmup_frac, kFrom0Below1), "",
            "LR_SCHEDULE=cosine: part of the budget (time, or iterations without a cap) in which the learning rate rises.");
  table.add("LR_MIN_SCALE", bind::number(&schedule.lr_min_scale, kFrom0To1), "",
            "LR_SCHEDULE=cosine: the last learning rate over the largest.");
  table.add("WARMDOWN_ITERS", bind::integer(&schedule.warmdown_iters, 0), "steps",
            "LR_SCHEDULE=golf: the learning rate falls linearly to 0 over the last of these.");
  table.add("WARMDOWN_FRAC", bind::number_or_none(&schedule.warmdown_frac, kFrom0To1), "",
            "The same as a fraction of the budget, instead of WARMDOWN_ITERS.");
}

void add_machine(OptionTable& table, RuntimeConfig& runtime) {
  table.group("Machine");
  table.add("SEED", bind::integer(&runtime.seed, 0, 4'294'967'295), "", "Seed of the initial weights.", Resume::must_match);
  table.add("DEVICE", bind::choice(&runtime.device), "", "auto: a GPU if there is one.");
  table.add("DTYPE", bind::choice(&runtime.dtype), "", "Of the computation; auto: bfloat16 where it is fast.",
            Resume::must_match);
  table.add("OPS", bind::choice(&runtime.ops), "", "reference: the plain definition of every operation.", Resume::must_match);
  table.add("NUM_THREADS", bind::integer(&runtime.num_threads, 0, 4096), "threads",
            "0 = OMP_NUM_THREADS, else the physical cores this process may use.");
  table.add("CUDA_GRAPHS", bind::choice(&runtime.cuda_graphs), "",
            "Record a step's device work and replay it; auto: on a GPU with OPS=fast.");
  table.add(
      "DETERMINISTIC", bind::boolean(&runtime.deterministic), "",
      "1: the same bits from run to run on a GPU as well, with LibTorch's deterministic algorithms. A CPU gives them anyway.");
}

void add_output(OptionTable& table, OutputConfig& output) {
  table.group("Output");
  table.add("OUT_DIR", bind::text(&output.out_dir), "", "Folder of run folders.");
  Binding run_id = bind::text(&output.run_id);
  run_id.default_text = "time and a short hash";
  table.add("RUN_ID", run_id, "", "Name of the run's folder: letters, digits, '.', '_' and '-'.");
  table.add("TRAIN_LOG_EVERY", bind::integer(&output.train_log_every, 0), "steps",
            "Steps between lines of training loss (the first ten always have one); 0 = never.");
  table.add("VAL_LOSS_EVERY", bind::integer(&output.val_loss_every, 0), "steps",
            "Steps between validations, before step 1 too; 0 = only at the end.");
  table.add("SAVE_EVERY", bind::integer(&output.save_every, 0), "steps",
            "Steps between training checkpoints; 0 = only when interrupted.");
  table.add("KEEP_LAST", bind::integer(&output.keep_last, 1), "checkpoints", "Newest training checkpoints kept.");
  table.add("PROFILE", bind::integer(&output.profile_steps, 0, 1000), "steps",
            "Profile as many after the first three: a table of operations, and a Chrome trace; 0 = off.");
  table.add("BUDGET_BYTES", bind::integer(&output.budget_bytes, 1), "bytes", "Most that artifact and code may take together.");
  Binding keep_float = bind::list(&output.int8_keep_float_patterns);
  keep_float.default_text = "CONTROL_TENSOR_NAME_PATTERNS";
  table.add("INT8_KEEP_FLOAT_FP32_NAME_PATTERNS", keep_float, "",
            "Small tensors whose names contain one of these are float32 in the artifact.");
}

}  // namespace

OptionTable train_table(TrainCommand* command, RopeRequest* rope) {
  OptionTable table("train_gpt [--config FILE]... [--OPTION VALUE]...",
                    "Trains a small GPT on token shards, and saves it as an artifact of at most BUDGET_BYTES.");
  table.accept_config_files();
  table.accept_environment();
  add_actions(table, command);
  RunConfig& config = command->config;
  add_model(table, &config.model, rope);
  add_data(table, config.data);
  add_optimizers(table, config.optim);
  add_schedule(table, config.schedule);
  add_machine(table, config.runtime);
  add_output(table, config.output);
  return table;
}

}  // namespace pgolf
