#include "train_table.h"

#include "pgolf/base/format.h"
#include "pgolf/config/micro_steps.h"
#include "pgolf/config/model_options.h"
#include "pgolf/config/test_time_training.h"

namespace pgolf {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 40;

constexpr Interval kAtLeast0{.low = 0};
constexpr Interval kFrom0To1{.low = 0, .high = 1};
constexpr Interval kFrom0Below1{.low = 0, .high = 1, .high_open = true};

void add_actions(OptionTable& table, TrainCommand* command) {
  table.add_action({.name = "print-config",
                    .field = &command->print_config,
                    .help = "Print every option with its value and origin, then exit."});
  table.add_action(
      {.name = "dry-run",
       .field = &command->dry_run,
       .help = "Print the configuration, parameter and token counts, and estimates of memory and artifact size, then exit."});
  table.add_action({.name = "resume",
                    .field = &command->resume,
                    .help = "Resume from a training checkpoint (auto: the newest of RUN_ID if given, else of OUT_DIR). Pass the "
                            "run's settings too: "
                            "--config RUN_FOLDER/config.env.",
                    .label = "auto|PATH",
                    .implied = "auto"});
  table.add_action({.name = "write-source",
                    .field = &command->write_source,
                    .help = "Write the source bundle whose size counts as code bytes, then exit.",
                    .label = "FILE"});
  table.add_action({.name = "help-markdown",
                    .field = &command->help_markdown,
                    .help = "Print the options as Markdown, then exit.",
                    .stops = true});
  table.add_action({.name = "version", .field = &command->version, .help = "Print the version, then exit.", .stops = true});
  table.add_action({.name = "help", .field = &command->help, .help = "Print this help, then exit.", .stops = true});
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
  table.add("DATA_PATH", bind::text(&data.data_path), "", "Folder with the shards fineweb_train_*.bin and fineweb_val_*.bin.");
  table.add("TOKENIZER_PATH", bind::text(&data.tokenizer_path), "", "SentencePiece .model file.");
  table.add("ALLOW_OTHER_DATA", bind::boolean(&data.allow_other_data), "",
            "Let --resume go on with other shards or another tokenizer than the checkpoint's, at the same place.");
  table.add(
      "LOADER", bind::choice(&data.loader), "",
      "Order of the training tokens. stream: as the shards have them. shuffled: windows of TRAIN_SEQ_LEN from all shards in "
      "random order, which depends on WORLD_SIZE but not on SEED.",
      Resume::must_match);
  table.add("TRAIN_BATCH_TOKENS", bind::integer(&data.train_batch_tokens, 1, kMaxTokens), "tokens",
            format("Tokens per optimizer step over all ranks: %d micro-steps of whole sequences.", kMicroSteps),
            Resume::must_match);
  table.add("MICRO_BATCH_TOKENS", bind::integer(&data.micro_batch_tokens, 0, kMaxTokens), "tokens",
            format("Tokens per forward and backward pass: a power of two times one micro-step (TRAIN_BATCH_TOKENS / %d). 0: one "
                   "micro-step, or several small ones on the CPU with OPS=fast.",
                   kMicroSteps),
            Resume::must_match);
  table.add(
      "PARALLEL_PASSES", bind::integer(&data.parallel_passes, 0, kMicroSteps), "micro-batches",
      "Micro-batches computed in parallel on the CPU with OPS=fast, one thread each: 1, 2, 4 or 8. Each needs its own memory. 0: "
      "one per thread if the model is small, else 1.");
  table.add("TRAIN_SEQ_LEN", bind::integer(&data.train_seq_len, 1, kMaxSeqLen), "tokens", "Sequence length.", Resume::must_match);
  table.add("VAL_BATCH_SIZE", bind::integer(&data.val_batch_size, 1, kMaxTokens), "tokens",
            format("Tokens per validation batch over all ranks and micro-steps; at least %d * TRAIN_SEQ_LEN.", kMicroSteps));
  table.add("EVAL_TOKENS", bind::integer(&data.eval_tokens, 0), "tokens", "Validation tokens to score; 0 = all.");
  table.add("BYTE_COUNT", bind::choice(&data.byte_counting), "", kByteCountHelp);
}

void add_optimizers(OptionTable& table, OptimConfig& optim) {
  table.group("Optimizers", Resume::must_match);
  table.add("OPTIMIZER", bind::choice(&optim.optimizer), "",
            "Optimizer of the block matrices; all other parameters use Adam. AdamW needs a MATRIX_LR far below Muon's default.");
  table.add("WEIGHT_DECAY", bind::number(&optim.weight_decay, kAtLeast0), "",
            "OPTIMIZER=adamw: decay of matrices and embeddings, scaled by their learning rate.");
  table.add("MUON_WD", bind::number(&optim.muon_wd, kAtLeast0), "",
            "OPTIMIZER=muon: decay of the block matrices, scaled by their learning rate.");
  table.add("EMBED_WD", bind::number(&optim.embed_wd, kAtLeast0), "",
            "OPTIMIZER=muon: decay of the token embedding, scaled by its learning rate.");
  table.add("ADAM_WD", bind::number(&optim.adam_wd, kAtLeast0), "",
            "Decay of vectors and scalars, scaled by their learning rate.");
  table.add("EMBED_LR", bind::number(&optim.embed_lr, kAtLeast0), "", "Adam learning rate of the token embedding, if not tied.");
  table.add("HEAD_LR", bind::number(&optim.head_lr, kAtLeast0), "", "Adam learning rate of the output head, if not tied.");
  table.add("TIED_EMBED_LR", bind::number(&optim.tied_embed_lr, kAtLeast0), "",
            "Adam learning rate of the token embedding, if tied.");
  table.add("MATRIX_LR", bind::number(&optim.matrix_lr, kAtLeast0), "", "Muon or AdamW learning rate of the block matrices.");
  table.add("SCALAR_LR", bind::number(&optim.scalar_lr, kAtLeast0), "", "Adam learning rate of vectors and scalars.");
  table.add("MUON_MOMENTUM", bind::number(&optim.muon_momentum, kFrom0To1), "", "Muon momentum after its warmup.");
  table.add("MUON_MOMENTUM_WARMUP_START", bind::number(&optim.muon_momentum_warmup_start, kFrom0To1), "",
            "Muon momentum at step 0.");
  table.add("MUON_MOMENTUM_WARMUP_STEPS", bind::integer(&optim.muon_momentum_warmup_steps, 0), "steps",
            "Length of the linear momentum warmup.");
  table.add("MUON_BACKEND_STEPS", bind::integer(&optim.muon_backend_steps, 0, 1000), "iterations",
            "Newton-Schulz iterations per update.");
  table.add("MUON_ROW_NORMALIZE", bind::boolean(&optim.muon_row_normalize), "",
            "Divide each row of Muon's momentum by its norm before it is orthogonalized.");
  table.add("MUON_DTYPE", bind::choice(&optim.muon_dtype), "",
            "Dtype of Newton-Schulz and the update; auto = DTYPE. Upstream always uses bfloat16.");
  table.add("BETA1", bind::number(&optim.beta1, kFrom0Below1), "", "Adam decay rate of the first moment.");
  table.add("BETA2", bind::number(&optim.beta2, kFrom0Below1), "", "Adam decay rate of the second moment.");
  table.add("ADAM_EPS", bind::number(&optim.adam_eps, kAtLeast0), "", "Adam epsilon, added to the denominator.");
  table.add("GRAD_CLIP_NORM", bind::number(&optim.grad_clip_norm, kAtLeast0), "",
            "Clip the global gradient norm to this value; 0 = off.");
  table.add("EMA_DECAY", bind::number(&optim.ema_decay, kFrom0Below1), "",
            "Decay per step of a running mean of the weights, which becomes the model at the end of training; 0 = off.");
  table.add("CONTROL_TENSOR_NAME_PATTERNS", bind::list(&optim.control_patterns), "",
            "Parameters whose names contain any of these stay float32 and are trained with Adam.");
}

void add_schedule(OptionTable& table, ScheduleConfig& schedule) {
  table.group("Schedule", Resume::must_match);
  table.add("ITERATIONS", bind::integer(&schedule.iterations, 0), "steps", "Maximum number of optimizer steps.");
  table.add("MAX_WALLCLOCK_SECONDS", bind::number(&schedule.max_wallclock_seconds, kAtLeast0), "seconds",
            "Cap on training time, validation excluded; 0 = no cap.");
  table.add("GPTQ_RESERVE_SECONDS", bind::number(&schedule.gptq_reserve_seconds, kAtLeast0), "seconds",
            "Part of MAX_WALLCLOCK_SECONDS that is not for training but for the Hessians that GPTQ needs.");
  table.add("MIN_STEPS", bind::integer(&schedule.min_steps, 0), "steps",
            "Time a few steps before training; if fewer than this many (or ITERATIONS) fit into MAX_WALLCLOCK_SECONDS, use fewer "
            "tokens per step, then fewer blocks. TRAIN_BATCH_TOKENS and NUM_LAYERS are upper limits. 0 = off.",
            Resume::may_differ);
  table.add("WARMUP_STEPS", bind::integer(&schedule.warmup_steps, 0), "steps",
            "Steps run before training to warm up the machine, then undone; not timed, not repeated on --resume.",
            Resume::may_differ);
  table.add("LR_SCHEDULE", bind::choice(&schedule.lr_schedule), "",
            "golf: constant, then linear decay to 0. cosine: linear warmup, then cosine decay.");
  table.add("LR_WARMUP_FRAC", bind::number(&schedule.lr_warmup_frac, kFrom0Below1), "",
            "LR_SCHEDULE=cosine: warmup as a fraction of the budget (time, or iterations without a cap).");
  table.add("LR_MIN_SCALE", bind::number(&schedule.lr_min_scale, kFrom0To1), "",
            "LR_SCHEDULE=cosine: final learning rate as a fraction of the peak.");
  table.add("WARMDOWN_ITERS", bind::integer(&schedule.warmdown_iters, 0), "steps",
            "LR_SCHEDULE=golf: length of the final linear decay to 0.");
  table.add("WARMDOWN_FRAC", bind::number_or_none(&schedule.warmdown_frac, kFrom0To1), "",
            "Length of that decay as a fraction of the budget, instead of WARMDOWN_ITERS.");
  table.add("MIN_LR", bind::number(&schedule.min_lr, kFrom0To1), "",
            "LR_SCHEDULE=golf: the decay ends at this fraction of the learning rate.");
  table.add("ENABLE_LOOPING_AT", bind::number(&schedule.enable_looping_at, kFrom0To1), "",
            "NUM_LOOPS: until this fraction of the budget is used, blocks run once.");
  table.add(
      "LOOP_PHASE2_AT", bind::number(&schedule.loop_phase2_at, kFrom0To1), "",
      "NUM_LOOPS: from ENABLE_LOOPING_AT to this fraction of the budget, blocks make a single extra pass; 0 = no such phase.");
  table.add(
      "ROPE_DROP_AT", bind::number_or_none(&schedule.rope_drop_at, kFrom0Below1), "",
      "From this fraction of the budget on, train without rotation (DroPE, arXiv 2512.12167): the result has ROPE_DIMS=none.");
}

void add_machine(OptionTable& table, RuntimeConfig& runtime) {
  table.group("Runtime");
  table.add("SEED", bind::integer(&runtime.seed, 0, 4'294'967'295), "", "Seed of the initial weights.", Resume::must_match);
  table.add("DEVICE", bind::choice(&runtime.device), "", "Device to run on; auto: a GPU if available, else the CPU.");
  table.add("DTYPE", bind::choice(&runtime.dtype), "", "Compute dtype; auto: bfloat16 where it is fast, else float32.",
            Resume::must_match);
  table.add("OPS", bind::choice(&runtime.ops), "", "Implementation of the operations. fast: fused; reference: plain definitions.",
            Resume::must_match);
  table.add("NUM_THREADS", bind::integer(&runtime.num_threads, 0, 4096), "threads",
            "CPU threads; 0 = OMP_NUM_THREADS, else the physical cores available to the process.");
  table.add("CUDA_GRAPHS", bind::choice(&runtime.cuda_graphs), "",
            "Record a step's GPU work as CUDA graphs and replay them; auto: on a GPU with OPS=fast.");
  table.add("DETERMINISTIC", bind::boolean(&runtime.deterministic), "",
            "Make GPU runs bitwise reproducible with LibTorch's deterministic algorithms. CPU runs always are.");
}

void add_dist(OptionTable& table, DistConfig& dist) {
  table.group("Several processes");
  table.add("DIST_BACKEND", bind::choice(&dist.backend), "",
            "Communication between processes; auto: NCCL on a GPU, gloo on the CPU, neither for a single process.");
  table.add("DIST_TIMEOUT_SECONDS", bind::number(&dist.timeout_seconds, {.low = 5, .high = 86'400}), "seconds",
            "How long a process may be silent before the job is ended, and how long processes wait for each other at the start.");
  table.add("DIST_GRADIENT_DTYPE", bind::choice(&dist.gradient_dtype), "",
            "Gradients are summed over processes in this dtype; auto: their own. bfloat16 halves the traffic.",
            Resume::must_match);
  table.add("GRAD_ACCUM_STEPS", bind::integer(&dist.grad_accum_steps, 0, 1 << 16), "micro-steps",
            format("Of each process; 0 = %d / WORLD_SIZE, upstream's. Batches depend on this times WORLD_SIZE.", kMicroSteps),
            Resume::may_differ);
  table.add("CHECK_RANKS", bind::integer(&dist.check_ranks, 0), "steps",
            "Compare all weights between processes every so many steps, and at the end; 0 = off.");
}

void add_output(OptionTable& table, OutputConfig& output) {
  table.group("Output");
  table.add("OUT_DIR", bind::text(&output.out_dir), "", "Folder that contains the run folders.");
  table.add("FALLBACK_DIR", bind::text(&output.fallback_dir), "",
            "Folder for the files at a run's end if OUT_DIR cannot be written, on a full disk for example; unset = the system's "
            "temporary folder.");
  Binding run_id = bind::text(&output.run_id);
  run_id.default_text = "timestamp and short hash";
  table.add("RUN_ID", run_id, "", "Name of the run folder: letters, digits, '.', '_' and '-'.");
  table.add("TRAIN_LOG_EVERY", bind::integer(&output.train_log_every, 0), "steps",
            "Steps between training loss log lines (the first ten steps are always logged); 0 = never.");
  table.add("VAL_LOSS_EVERY", bind::integer(&output.val_loss_every, 0), "steps",
            "Steps between validations, the first before step 1; 0 = only at the end.");
  table.add("SAVE_EVERY", bind::integer(&output.save_every, 0), "steps",
            "Steps between training checkpoints; 0 = only when interrupted.");
  table.add("KEEP_LAST", bind::integer(&output.keep_last, 1), "checkpoints",
            "Number of most recent training checkpoints to keep.");
  table.add("PROFILE", bind::integer(&output.profile_steps, 0, 1000), "steps",
            "Steps to profile after the first three, as a table of operations and a Chrome trace; 0 = off.");
  table.add("LOGGERS", bind::choice(&output.loggers), "",
            "tensorboard: also write losses, rates, norms, speed and memory to event files in the run folder.");
  table.add("HISTOGRAM_EVERY", bind::integer(&output.histogram_every, 0), "steps",
            "LOGGERS=tensorboard: steps between histograms of all weights; 0 = never.");
  table.add("SAMPLE_EVERY", bind::integer(&output.sample.every, 0), "steps",
            "Steps between texts sampled from the model, for the log, metrics.jsonl and TensorBoard; 0 = never.");
  table.add("SAMPLE_PROMPT", bind::text(&output.sample.prompt), "", "Text that they continue; unset = a new document.");
  table.add("SAMPLE_TOKENS", bind::integer(&output.sample.tokens, 1, 1 << 20), "tokens", "Their maximum length.");
  table.add("BUDGET_BYTES", bind::integer(&output.budget_bytes, 1), "bytes", "Size limit of artifact plus code.");
  Binding keep_float = bind::list(&output.int8_keep_float_patterns);
  keep_float.default_text = "CONTROL_TENSOR_NAME_PATTERNS";
  table.add("INT8_KEEP_FLOAT_FP32_NAME_PATTERNS", keep_float, "",
            "Small tensors whose names contain any of these are stored as float32 in the artifact.");
}

void add_artifact(OptionTable& table, OutputConfig& output) {
  table.group("Artifact");
  GptqConfig& gptq = output.gptq;
  table.add("QUANTIZER", bind::choice(&output.artifact.quantizer), "",
            "int8: each row by itself. gptq: with fewer bits, making up for rounding errors by what the matrices' inputs are "
            "(arXiv 2210.17323).");
  table.add("COMPRESSOR", bind::choice(&output.artifact.codec), "",
            "Compression of the artifact. Brotli makes the smallest files, and takes minutes for the largest.");
  table.add("MATRIX_BITS", bind::integer(&gptq.matrix_bits, 2, 8), "bits", "QUANTIZER=gptq: of a code, for matrices.");
  table.add("EMBED_BITS", bind::integer(&gptq.embed_bits, 2, 8), "bits", "The same for the token embedding.");
  table.add("GPTQ_CLIP", bind::choice(&gptq.clip), "",
            "Largest weight that a row's codes reach. sigmas: MATRIX_CLIP_SIGMAS times its standard deviation. search: the best "
            "of five quantiles; the embedding is quantized as by int8.");
  const Interval positive{.low = 0, .low_open = true};
  table.add("MATRIX_CLIP_SIGMAS", bind::number(&gptq.matrix_clip_sigmas, positive), "",
            "GPTQ_CLIP=sigmas, for matrices. A larger value makes a smaller artifact.");
  table.add("EMBED_CLIP_SIGMAS", bind::number(&gptq.embed_clip_sigmas, positive), "", "The same for the token embedding.");
  table.add("HESSIAN_CLIP_LAMBDA", bind::number(&gptq.hessian_clip_lambda, kFrom0To1), "",
            "GPTQ_CLIP=sigmas: how far the reach of a row's codes follows the size of its inputs; 0 = not.");
  table.add("GPTQ_CALIBRATION", bind::choice(&gptq.calibration), "",
            "Text for the matrices' inputs. train: the first of the training data. self: sampled from the model.");
  table.add("GPTQ_CALIBRATION_BATCHES", bind::integer(&gptq.calibration_batches, 1, 1 << 20), "batches",
            "Length of that text: micro-steps of training data, or sequences of TRAIN_SEQ_LEN.");
  table.add("FIT_BUDGET", bind::boolean(&output.fit_budget), "",
            "QUANTIZER=gptq: raise both clips by the same factor until artifact and code fit into BUDGET_BYTES.");
}

void add_scores(OptionTable& table, ScoreConfig& score) {
  table.group("Final scores");
  table.add("EVAL_STRIDE", bind::integer(&score.eval_stride, 0, kMaxSeqLen), "tokens",
            "Also score the artifact in overlapping windows of TRAIN_SEQ_LEN so far apart, each target once; 0 = not.");
  add_test_time_training(table, score.ttt);
}

}  // namespace

OptionTable train_table(TrainCommand* command, RopeRequest* rope) {
  OptionTable table("train_gpt [--config FILE]... [--OPTION VALUE]...",
                    "Trains a small GPT on token shards and saves it as an artifact of at most BUDGET_BYTES.");
  table.accept_config_files();
  table.accept_environment();
  add_actions(table, command);
  RunConfig& config = command->config;
  add_model(table, &config.model, rope);
  add_data(table, config.data);
  add_optimizers(table, config.optim);
  add_schedule(table, config.schedule);
  add_machine(table, config.runtime);
  add_dist(table, config.dist);
  add_output(table, config.output);
  add_scores(table, config.score);
  add_artifact(table, config.output);
  return table;
}

}  // namespace pgolf
