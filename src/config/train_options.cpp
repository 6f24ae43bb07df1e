#include "pgolf/config/train_options.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>

#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/config/micro_steps.h"
#include "pgolf/config/model_options.h"
#include "pgolf/config/parameters.h"
#include "pgolf/config/test_time_training.h"
#include "train_table.h"

namespace pgolf {
namespace {

/// "values are 6144 and 8192", the multiples of unit around value; only the first if value is below it.
std::string nearest_multiples(int64_t value, int64_t unit) {
  const int64_t below = value / unit * unit;
  const std::string above = std::to_string(below + unit);
  return below > 0 ? "values are " + std::to_string(below) + " and " + above : "value is " + above;
}

/// Whether the gradients of both the table and its projection are zero, as they themselves are.
bool bigram_stays_zero(const ModelConfig& model) {
  const auto parameters = model_parameters(model);
  return std::any_of(parameters.begin(), parameters.end(), [](const Parameter& parameter) {
    return parameter.name == parameter_name::bigram_projection && parameter.initialization == Initialization::zeros;
  });
}

void check_model(const ModelConfig& model, const std::vector<ResolvedOption>& options) {
  if (model.model_dim % model.num_heads != 0) {
    refuse(options, {"MODEL_DIM", "NUM_HEADS"}, "the number of heads must divide the width",
           format("with %d heads the nearest valid MODEL_DIM %s", model.num_heads,
                  nearest_multiples(model.model_dim, 2 * int64_t{model.num_heads}).c_str()));
  }
  if (model.head_dim() % 2 != 0) {
    refuse(options, {"MODEL_DIM", "NUM_HEADS"}, format("a head has %d dims, but rotation needs an even number", model.head_dim()),
           format("with %d heads the nearest valid MODEL_DIM %s", model.num_heads,
                  nearest_multiples(model.model_dim, 2 * int64_t{model.num_heads}).c_str()));
  }
  if (model.num_heads % model.num_kv_heads != 0) {
    refuse(options, {"NUM_HEADS", "NUM_KV_HEADS"}, "the number of key/value heads must divide the number of query heads");
  }
  check_shape(model, options);
  if (model.init_std > 0 && model.tied_embed_init_std != ModelConfig().tied_embed_init_std)
    refuse(options, {"TIED_EMBED_INIT_STD", "INIT_STD"}, "both set the initial embedding", "set only one of them");
  if (bigram_stays_zero(model)) {
    refuse(options, {"BIGRAM_DIM", "MODEL_DIM"}, "table and projection would both start at zero and never change",
           "use at least 64 for both, or the same for both");
  }
  if (model.init_std > 0 && model.orthogonal_init)
    refuse(options, {"ORTHOGONAL_INIT", "INIT_STD"}, "both set the initial matrices", "set only one of them");
}

void check_run_id(const std::string& run_id, const std::vector<ResolvedOption>& options) {
  constexpr size_t max_length = 128;
  const auto legal = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  };
  if (run_id.size() > max_length || !std::all_of(run_id.begin(), run_id.end(), legal)) {
    refuse(options, {"RUN_ID"}, format("it must consist of up to %zu letters, digits, '.', '_' and '-'", max_length));
  }
  if (run_id[0] == '.' || run_id[0] == '-') refuse(options, {"RUN_ID"}, "it must start with a letter, a digit or '_'");
}

void check_runtime(const RuntimeConfig& runtime, const std::vector<ResolvedOption>& options) {
  if (runtime.cuda_graphs == SwitchChoice::on && runtime.ops == OpsPath::reference) {
    refuse(options, {"CUDA_GRAPHS", "OPS"}, "the reference operations read values on the host at every step",
           "set CUDA_GRAPHS=auto or OPS=fast");
  }
}

void check_optim(const OptimConfig& optim, std::vector<std::string>& warnings, const std::vector<ResolvedOption>& options) {
  const OptimConfig defaults;
  const std::string no_effect = "no effect with this optimizer";
  if (optim.optimizer == OptimizerChoice::muon) {
    if (optim.weight_decay != 0)
      refuse(options, {"WEIGHT_DECAY", "OPTIMIZER"}, no_effect, "set MUON_WD and EMBED_WD, or OPTIMIZER=adamw");
    return;
  }
  const auto must_be_default = [&](const char* name, bool is_default) {
    if (!is_default) refuse(options, {name, "OPTIMIZER"}, no_effect, "remove it, or set OPTIMIZER=muon");
  };
  must_be_default("MUON_MOMENTUM", optim.muon_momentum == defaults.muon_momentum);
  must_be_default("MUON_MOMENTUM_WARMUP_START", optim.muon_momentum_warmup_start == defaults.muon_momentum_warmup_start);
  must_be_default("MUON_MOMENTUM_WARMUP_STEPS", optim.muon_momentum_warmup_steps == defaults.muon_momentum_warmup_steps);
  must_be_default("MUON_BACKEND_STEPS", optim.muon_backend_steps == defaults.muon_backend_steps);
  must_be_default("MUON_DTYPE", optim.muon_dtype == defaults.muon_dtype);
  must_be_default("MUON_ROW_NORMALIZE", !optim.muon_row_normalize);
  for (const auto& [name, decay] : {std::pair{"MUON_WD", optim.muon_wd}, {"EMBED_WD", optim.embed_wd}})
    if (decay != 0) refuse(options, {name, "OPTIMIZER"}, no_effect, "set WEIGHT_DECAY instead");
  if (find_option(options, "MATRIX_LR").source == Source::default_value) {
    warnings.push_back(format("MATRIX_LR=%g is Muon's default; with OPTIMIZER=adamw a typical value is 0.001", optim.matrix_lr));
  }
}

void check_schedule(const ScheduleConfig& schedule, std::vector<std::string>& warnings,
                    const std::vector<ResolvedOption>& options) {
  const ScheduleConfig defaults;
  const bool cosine = schedule.lr_schedule == LrSchedule::cosine;
  const auto must_be_default = [&](const char* name, bool is_default) {
    if (!is_default) refuse(options, {name, "LR_SCHEDULE"}, "no effect with this schedule");
  };
  must_be_default("LR_WARMUP_FRAC", cosine || schedule.lr_warmup_frac == defaults.lr_warmup_frac);
  must_be_default("LR_MIN_SCALE", cosine || schedule.lr_min_scale == defaults.lr_min_scale);
  must_be_default("WARMDOWN_ITERS", !cosine || schedule.warmdown_iters == defaults.warmdown_iters);
  must_be_default("WARMDOWN_FRAC", !cosine || schedule.warmdown_frac == defaults.warmdown_frac);
  must_be_default("MIN_LR", !cosine || schedule.min_lr == defaults.min_lr);
  if (schedule.loop_phase2_at > 0 && schedule.loop_phase2_at < schedule.enable_looping_at) {
    refuse(options, {"LOOP_PHASE2_AT", "ENABLE_LOOPING_AT"}, "the second phase cannot begin before the first");
  }
  if (schedule.max_wallclock_seconds > 0 && schedule.cap_ms() <= 0) {
    refuse(options, {"GPTQ_RESERVE_SECONDS", "MAX_WALLCLOCK_SECONDS"}, "no time would be left for training",
           "set a smaller GPTQ_RESERVE_SECONDS");
  }
  const bool by_steps = !cosine && schedule.warmdown_frac < 0 && schedule.cap_ms() <= 0;
  if (by_steps && schedule.warmdown_iters > schedule.iterations) {
    warnings.push_back(
        format("WARMDOWN_ITERS=%d is more than ITERATIONS=%d: the learning rate starts at %.3g of what it would be; "
               "set WARMDOWN_ITERS or WARMDOWN_FRAC",
               schedule.warmdown_iters, schedule.iterations, schedule.iterations / static_cast<double>(schedule.warmdown_iters)));
  }
  if (schedule.min_steps > 0 && schedule.max_wallclock_seconds == 0) {
    refuse(options, {"MIN_STEPS", "MAX_WALLCLOCK_SECONDS"}, "MIN_STEPS needs a time cap",
           "set MAX_WALLCLOCK_SECONDS, or MIN_STEPS=0");
  }
}

void check_artifact(const RunConfig& config, const std::vector<ResolvedOption>& options) {
  const GptqConfig &gptq = config.output.gptq, defaults;
  const auto must_be_default = [&](const char* name, bool is_default, const char* chooser, const char* value) {
    if (!is_default)
      refuse(options, {name, chooser}, format("no effect with this %s", chooser),
             format("remove it, or set %s=%s", chooser, value));
  };
  const bool is_gptq = config.output.artifact.quantizer == Quantizer::gptq;
  const auto needs_gptq = [&](const char* name, bool is_default) {
    must_be_default(name, is_gptq || is_default, "QUANTIZER", "gptq");
  };
  needs_gptq("MATRIX_BITS", gptq.matrix_bits == defaults.matrix_bits);
  needs_gptq("GPTQ_CLIP", gptq.clip == defaults.clip);
  needs_gptq("GPTQ_CALIBRATION", gptq.calibration == defaults.calibration);
  needs_gptq("GPTQ_CALIBRATION_BATCHES", gptq.calibration_batches == defaults.calibration_batches);
  const bool sigmas = is_gptq && gptq.clip == GptqClip::sigmas;
  const auto needs_sigmas = [&](const char* name, bool is_default) {
    must_be_default(name, sigmas || is_default, is_gptq ? "GPTQ_CLIP" : "QUANTIZER", is_gptq ? "sigmas" : "gptq");
  };
  needs_sigmas("EMBED_BITS", gptq.embed_bits == defaults.embed_bits);
  needs_sigmas("MATRIX_CLIP_SIGMAS", gptq.matrix_clip_sigmas == defaults.matrix_clip_sigmas);
  needs_sigmas("EMBED_CLIP_SIGMAS", gptq.embed_clip_sigmas == defaults.embed_clip_sigmas);
  needs_sigmas("HESSIAN_CLIP_LAMBDA", gptq.hessian_clip_lambda == defaults.hessian_clip_lambda);
  needs_sigmas("FIT_BUDGET", !config.output.fit_budget);
  if (!is_gptq) return;
  if (!config.model.tie_embeddings) {
    refuse(options, {"TIE_EMBEDDINGS", "QUANTIZER"}, "a separate output head cannot be quantized by gptq",
           "set TIE_EMBEDDINGS=1 or QUANTIZER=int8");
  }
  const char* patterns = "INT8_KEEP_FLOAT_FP32_NAME_PATTERNS";
  must_be_default(patterns, find_option(options, patterns).source == Source::default_value, "QUANTIZER", "int8");
}

void check_rotation(const RunConfig& config, const std::vector<ResolvedOption>& options) {
  const ModelConfig& model = config.model;
  if (config.schedule.rope_drop_at >= 0 && model.widest_rope().none())
    refuse(options, {"ROPE_DROP_AT", "ROPE_DIMS"}, "nothing rotates in the first place");
  bool all_rotate = true;
  for (int layer = 0; layer < model.num_layers; ++layer) all_rotate = all_rotate && model.rope_of(layer).full();
  if (model.key_offset && all_rotate && config.schedule.rope_drop_at < 0)
    refuse(options, {"KEY_OFFSET", "ROPE_DIMS"}, "all dimensions of all keys rotate", "set ROPE_DIMS below head_dim");
}

void check_output(const OutputConfig& output, const std::vector<ResolvedOption>& options) {
  if (output.histogram_every > 0 && output.loggers != LoggerChoice::tensorboard)
    refuse(options, {"HISTOGRAM_EVERY", "LOGGERS"}, "histograms need an event file", "set LOGGERS=tensorboard");
  const auto needs_samples = [&](const char* name, bool is_default) {
    if (output.sample.every == 0 && !is_default)
      refuse(options, {name, "SAMPLE_EVERY"}, "no text is sampled", "set SAMPLE_EVERY");
  };
  needs_samples("SAMPLE_PROMPT", output.sample.prompt.empty());
  needs_samples("SAMPLE_TOKENS", output.sample.tokens == SampleConfig().tokens);
}

void check_scores(const RunConfig& config, const std::vector<ResolvedOption>& options) {
  if (config.score.eval_stride > config.data.train_seq_len)
    refuse(options, {"EVAL_STRIDE", "TRAIN_SEQ_LEN"}, "windows farther apart than they are long would skip tokens");
  check_test_time_training(config.score.ttt, config.score.eval_stride, options);
}

void resolve_code_format(OutputConfig& output) {
  if (output.artifact.quantizer == Quantizer::gptq)
    output.artifact.codes = output.gptq.clip == GptqClip::search ? CodeFormat::gptq_types : CodeFormat::gptq;
}

void resolve_warmdown(std::vector<ResolvedOption>& options) {
  const bool iters_given = find_option(options, "WARMDOWN_ITERS").source != Source::default_value;
  if (find_option(options, "WARMDOWN_FRAC").text == "none") return;
  if (iters_given) {
    refuse(options, {"WARMDOWN_FRAC", "WARMDOWN_ITERS"}, "these options conflict: both set the length of the decay",
           "set only one of them, or WARMDOWN_FRAC=none");
  }
  // It has no effect, and would conflict with WARMDOWN_FRAC when read back.
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
  option.replayable = false;  // a run folder is never reused
}

}  // namespace

void require_micro_steps(const DataConfig& data, int micro_steps, const std::vector<ResolvedOption>& options) {
  const int64_t unit = int64_t{micro_steps} * data.train_seq_len;
  if (data.train_batch_tokens % unit != 0) {
    refuse(options, {"TRAIN_BATCH_TOKENS", "TRAIN_SEQ_LEN"},
           format("a step consists of %d micro-steps of whole sequences", micro_steps),
           format("TRAIN_BATCH_TOKENS must be a multiple of %d * %d = %lld; the nearest valid %s", micro_steps,
                  data.train_seq_len, static_cast<long long>(unit), nearest_multiples(data.train_batch_tokens, unit).c_str()));
  }
  const int64_t micro_step = data.train_batch_tokens / micro_steps, multiple = data.micro_batch_tokens / micro_step;
  if (data.micro_batch_tokens != 0 &&
      (data.micro_batch_tokens % micro_step != 0 || multiple > micro_steps || micro_steps % multiple != 0)) {
    std::string valid;
    for (int64_t n = 1; n <= micro_steps; ++n) {
      if (micro_steps % n != 0) continue;
      valid += (n == 1 ? "" : n == micro_steps ? " or " : ", ") + std::to_string(n * micro_step);
    }
    refuse(options, {"MICRO_BATCH_TOKENS", "TRAIN_BATCH_TOKENS"},
           format("a micro-batch must be a number of micro-steps that divides %d", micro_steps),
           "MICRO_BATCH_TOKENS must be " + valid);
  }
  const int64_t parallel = std::max(data.parallel_passes, 1);
  if (micro_steps % parallel != 0 || (data.micro_batch_tokens != 0 && micro_steps / multiple < parallel)) {
    refuse(options, {"PARALLEL_PASSES", "MICRO_BATCH_TOKENS", "TRAIN_BATCH_TOKENS"},
           format("PARALLEL_PASSES must divide %d and be at most the number of micro-batches per step", micro_steps));
  }
  if (data.val_batch_size / micro_steps < data.train_seq_len) {
    refuse(
        options, {"VAL_BATCH_SIZE", "TRAIN_SEQ_LEN"},
        format("a micro-step (1/%d of the batch) must contain at least one sequence", micro_steps),
        format("VAL_BATCH_SIZE must be at least %d * %d = %lld", micro_steps, data.train_seq_len, static_cast<long long>(unit)));
  }
}

TrainCommand resolve_train_command(int argc, const char* const* argv, const Environment& environment,
                                   const Overrides& overrides) {
  TrainCommand command;
  RopeRequest rope;
  Resolution resolution = train_table(&command, &rope).resolve(argc, argv, environment, overrides);
  if (resolution.stopped) return command;
  command.resolved = std::move(resolution.options);
  command.warnings = std::move(resolution.warnings);

  check_model(command.config.model, command.resolved);
  const DataConfig& data = command.config.data;
  if (command.config.dist.grad_accum_steps == 0) require_micro_steps(data, kMicroSteps, command.resolved);
  if (!data.tokenizer_path.ends_with(".model")) {
    refuse(command.resolved, {"TOKENIZER_PATH"}, "the tokenizer must be a SentencePiece .model file");
  }
  check_optim(command.config.optim, command.warnings, command.resolved);
  check_schedule(command.config.schedule, command.warnings, command.resolved);
  check_runtime(command.config.runtime, command.resolved);
  check_artifact(command.config, command.resolved);
  check_scores(command.config, command.resolved);
  check_output(command.config.output, command.resolved);
  resolve_rope(rope, &command.config.model, &command.resolved, &command.warnings);
  check_rotation(command.config, command.resolved);
  resolve_warmdown(command.resolved);
  resolve_keep_float_patterns(command);
  resolve_code_format(command.config.output);
  resolve_run_id(command);
  return command;
}

std::string train_help() {
  TrainCommand command;
  RopeRequest rope;
  return train_table(&command, &rope).help();
}

std::string train_options_markdown() {
  TrainCommand command;
  RopeRequest rope;
  return train_table(&command, &rope).markdown();
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
