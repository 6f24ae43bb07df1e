// bench_step: times the optimizer steps of a configuration, as a whole and by part, or its validations.
//
// "total" is the Trainer's own step. The parts are timed in separate steps that make the same calls on the same model one at
// a time; their optimizers have a learning rate of 0, so that the model does not change.
#include <torch/types.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>

#include "machine.h"
#include "pgolf/base/cpu_level.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/stopwatch.h"
#include "pgolf/config/parameters.h"
#include "pgolf/config/train_options.h"
#include "pgolf/train/trainer.h"

namespace pgolf {
namespace {

constexpr const char* kUsage =
    "Usage: bench_step [--steps N] [--warmup N] [--total-only] [--validation] [--json FILE] [-- train_gpt OPTION...]\n"
    "\n"
    "Times optimizer steps. The configuration comes from the environment and from train_gpt's options after \"--\",\n"
    "including --config FILE. Looped blocks make all their passes.\n"
    "\n"
    "  --steps N      measured steps (default 10)\n"
    "  --warmup N     unmeasured steps before them (default 2)\n"
    "  --total-only   do not time the parts: half the time and less memory (no second set of optimizer states); with\n"
    "                 CUDA graphs they are never timed\n"
    "  --validation   instead of steps, time validations of EVAL_TOKENS tokens with the initial weights\n"
    "  --json FILE    also write all times and the summary to this file\n"
    "\n"
    "The peak is that of matrix products in DTYPE: large ones by LibTorch or our own on cached operands, whichever is faster.\n";

struct BenchOptions {
  int steps = 10;
  int warmup = 2;
  bool parts = true;
  bool validation = false;
  std::string json;
  bool help = false;
};

int parse_count(const char* flag, const char* text, int low) {
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc{} || stop != end || value < low) {
    throw Error(ExitCode::usage, format("bench_step %s takes an integer >= %d, not \"%s\"", flag, low, text));
  }
  return value;
}

/// Parses bench_step's own flags from argv; rest gets the program's name and what follows "--", for train_gpt's options.
BenchOptions take_own_flags(int argc, char** argv, std::vector<const char*>* rest) {
  BenchOptions options;
  rest->push_back(argv[0]);
  int i = 1;
  for (; i < argc && std::strcmp(argv[i], "--") != 0; ++i) {
    const std::string flag = argv[i];
    const auto value = [&] {
      if (i + 1 == argc) throw Error(ExitCode::usage, format("bench_step %s needs a value", flag.c_str()));
      return argv[++i];
    };
    if (flag == "--steps") {
      options.steps = parse_count("--steps", value(), 1);
    } else if (flag == "--warmup") {
      options.warmup = parse_count("--warmup", value(), 0);
    } else if (flag == "--total-only") {
      options.parts = false;
    } else if (flag == "--validation") {
      options.validation = true;
      options.parts = false;
    } else if (flag == "--json") {
      options.json = value();
    } else if (flag == "--help" || flag == "-h") {
      options.help = true;
    } else {
      throw Error(ExitCode::usage, format("bench_step: unknown option %s", flag.c_str()),
                  "train_gpt's options go after \"--\"; see bench_step --help");
    }
  }
  for (++i; i < argc; ++i) rest->push_back(argv[i]);
  return options;
}

/// Milliseconds between marks, including the device's work.
class DeviceStopwatch {
 public:
  explicit DeviceStopwatch(at::Device device) : device_(device) { mark(); }
  double mark() {
    synchronize(device_);
    return 1000 * watch_.lap();
  }

 private:
  at::Device device_;
  Stopwatch watch_;
};

enum Row { kTotal, kGradients, kUpdate, kData, kForward, kBackward, kClip, kMuon, kAdam, kRows };
constexpr const char* kRowNames[kRows] = {"total", "gradients", "update", "data", "forward", "backward", "clip", "muon", "adam"};
constexpr const char* kRowNotes[kRows] = {"the Trainer's step (or validation)",
                                          "  of it: all micro-batches, and the gradient norms",
                                          "  of it: clipping, optimizers",
                                          "part: wait for tokens, move them to the device",
                                          "part: forward, one micro-batch at a time",
                                          "part: backward, one micro-batch at a time",
                                          "part: gradient norm and scaling, with GRAD_CLIP_NORM",
                                          "part: momentum and Newton-Schulz",
                                          "part: embedding, head, control tensors"};
using Samples = std::vector<double>;

/// The pieces of a step, called one by one on a trainer's model.
class Parts {
 public:
  Parts(Trainer& trainer, const Process& process)
      : config_(trainer.config()),
        device_(trainer.runtime().device),
        model_(trainer.model()),
        micro_batches_(config_, trainer.runtime(), process),
        groups_(split_parameters(model_, config_.optim.control_patterns)),
        muon_(groups_.matrix, config_.optim, muon_dtype(config_.optim.muon_dtype, trainer.runtime().dtype), process,
              config_.runtime.ops) {
    for (const auto& group : {groups_.tok_emb, groups_.lm_head, groups_.scalar})
      adams_.emplace_back(group, config_.optim.scalar_lr, config_.optim);
  }

  /// Adds a step's time to each part's samples.
  void step(std::vector<Samples>* samples) {
    double forward = 0, backward = 0;
    model_->zero_grad(/*set_to_none=*/true);
    DeviceStopwatch watch(device_);
    micro_batches_.load();
    const double data = watch.mark();
    for (int64_t i = 0; i < micro_batches_.count(); ++i) {
      const auto [inputs, targets] = micro_batches_.get(i);
      const auto loss = model_(inputs, targets);
      forward += watch.mark();
      (loss * (1.0 / static_cast<double>(micro_batches_.count()))).backward();
      backward += watch.mark();
    }
    if (config_.optim.grad_clip_norm > 0) {
      clip_grad_norm(model_->parameters(), config_.optim.grad_clip_norm);
      (*samples)[kClip].push_back(watch.mark());
    }
    muon_.schedule(/*lr_scale=*/0, config_.optim.muon_momentum);
    muon_.step();
    const double muon = watch.mark();
    for (auto& adam : adams_) {
      adam.schedule(/*lr_scale=*/0);
      adam.step();
    }
    const double adam = watch.mark();
    model_->zero_grad(/*set_to_none=*/true);
    (*samples)[kData].push_back(data);
    (*samples)[kForward].push_back(forward);
    (*samples)[kBackward].push_back(backward);
    (*samples)[kMuon].push_back(muon);
    (*samples)[kAdam].push_back(adam);
  }

 private:
  const RunConfig& config_;
  at::Device device_;
  Gpt model_;
  MicroBatches micro_batches_;
  ParameterGroups groups_;
  Muon muon_;
  std::vector<Adam> adams_;
};

/// Linear interpolation between order statistics. q in [0, 1].
double quantile(Samples samples, double q) {
  std::sort(samples.begin(), samples.end());
  const double at = q * static_cast<double>(samples.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, samples.size() - 1);
  return samples[low] + (at - static_cast<double>(low)) * (samples[high] - samples[low]);
}

/// Model FLOPs of a token's forward and backward pass (a third of them forward), recomputation not counted: 6 per matrix
/// parameter and pass (the head's matrix is one, the embedding's lookup is none), and 6 * passes * width * sequence length for
/// the causal half of attention.
double flops_per_token(const RunConfig& config) {
  const auto& m = config.model;
  const double dim = m.model_dim, kv = m.num_kv_heads * m.head_dim(), passes = static_cast<double>(m.full_order().passes());
  const double matrices =
      passes * (2 * dim * dim + 2 * dim * kv + m.mlp_matrices() * dim * static_cast<double>(m.mlp_hidden())) + dim * m.vocab_size;
  double projections = 0;  // of what tokens contribute besides embeddings
  for (const Parameter& parameter : model_parameters(m)) {
    if (parameter.role == ParameterRole::matrix && !parameter.in_block()) projections += static_cast<double>(parameter.numel());
  }
  return 6 * (matrices + projections + passes * dim * config.data.train_seq_len);
}

struct Measured {
  std::vector<Samples> ms{kRows};
  double first_loss = 0, cpu_seconds = 0;
  int64_t tokens = 0;  ///< of a step or validation
};

Measured measure(const BenchOptions& options, Trainer& trainer, std::optional<Parts>& parts) {
  Measured measured{.tokens = trainer.config().data.train_batch_tokens};
  for (int i = -options.warmup; i < options.steps; ++i) {
    std::vector<Samples> discarded(kRows);
    auto& kept = i < 0 ? discarded : measured.ms;
    DeviceStopwatch watch(trainer.runtime().device);
    const std::clock_t cpu_start = std::clock();
    if (options.validation) {
      const EvalResult result = *trainer.validate();
      kept[kTotal].push_back(watch.mark());
      measured.tokens = result.tokens;
      measured.first_loss = result.val_loss;
    } else {
      StepRecord record = trainer.forward_backward();
      const double gradients = watch.mark();
      trainer.apply_gradients(&record, /*elapsed_ms=*/0);
      const double update = watch.mark();
      if (record.step == 1) measured.first_loss = record.train_loss;
      kept[kTotal].push_back(gradients + update);
      kept[kGradients].push_back(gradients);
      kept[kUpdate].push_back(update);
    }
    if (i >= 0) measured.cpu_seconds += static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
    if (parts) parts->step(&kept);
  }
  return measured;
}

/// Prints what was measured, and writes it to --json.
void report(const BenchOptions& options, const TrainCommand& command, const Runtime& runtime, const MicroBatchPlan& plan,
            const Measured& measured) {
  const auto& config = command.config;
  double wall_ms = 0;
  for (const double ms : measured.ms[kTotal]) wall_ms += ms;
  const double cpu_share = measured.cpu_seconds * 1000 / (wall_ms * runtime.num_threads);
  const double median_ms = quantile(measured.ms[kTotal], 0.5);
  const int64_t peak_bytes = peak_memory(runtime.device).allocated;
  const double flops = static_cast<double>(measured.tokens) * flops_per_token(config) / (options.validation ? 3 : 1);
  const double tokens_per_s = static_cast<double>(measured.tokens) * 1000 / median_ms, flops_per_s = flops * 1000 / median_ms;
  const double peak_flops_per_s = matrix_peak(runtime.device, runtime.dtype);
  const std::string dtype = dtype_name(runtime.dtype);
  const std::string ops = find_option(command.resolved, "OPS").text,
                    muon_dtype = dtype_name(pgolf::muon_dtype(config.optim.muon_dtype, runtime.dtype)),
                    level = runtime.device.is_cpu() ? cpu_level_name(cpu_level()) : "";

  std::printf(
      "%d blocks, width %d, %s parameters, rope_dims %s; %lld tokens per step in %d micro-batches, %d at a time, "
      "sequences of %d\n",
      config.model.num_layers, config.model.model_dim, with_commas(config.model.parameter_count()).c_str(),
      describe_rope_dims(config.model.widest_rope()).c_str(), static_cast<long long>(config.data.train_batch_tokens),
      plan.micro_batches, plan.parallel, config.data.train_seq_len);
  std::printf("device %s %s, dtype %s, muon %s, ops %s, threads %d, LibTorch %s; %d steps after %d warmup steps\n\n",
              runtime.device.str().c_str(), level.c_str(), dtype.c_str(), muon_dtype.c_str(), ops.c_str(), runtime.num_threads,
              TORCH_VERSION, options.steps, options.warmup);
  std::printf("%-10s %11s %11s %11s %7s\n", "ms", "median", "p10", "p90", "share");
  nlohmann::ordered_json rows;
  for (int row = 0; row < kRows; ++row) {
    const auto& s = measured.ms[static_cast<size_t>(row)];
    if (s.empty()) continue;
    const double median = quantile(s, 0.5), p10 = quantile(s, 0.1), p90 = quantile(s, 0.9);
    std::printf("%-10s %11.3f %11.3f %11.3f %6.1f%%  %s\n", kRowNames[row], median, p10, p90, 100 * median / median_ms,
                kRowNotes[row]);
    rows[kRowNames[row]] = {{"median", median}, {"p10", p10}, {"p90", p90}, {"samples", s}};
  }
  std::printf("\n%.0f tokens/s, %.1f model GFLOP/s, %.1f%% of the peak of %.1f GFLOP/s\n", tokens_per_s, flops_per_s / 1e9,
              100 * flops_per_s / peak_flops_per_s, peak_flops_per_s / 1e9);
  std::printf("%s %s, CPU time / (wall time x threads) %.2f, %s %.6f\n",
              runtime.device.is_cuda() ? "peak memory allocated" : "peak resident size",
              human_bytes(static_cast<double>(peak_bytes)).c_str(), cpu_share, options.validation ? "val_loss" : "loss of step 1",
              measured.first_loss);

  if (!options.json.empty()) {
    nlohmann::ordered_json settings;
    for (const auto& option : command.resolved) settings[option.name] = option.text;
    const nlohmann::ordered_json out = {{"device", runtime.device.str()},
                                        {"cpu_level", level},
                                        {"dtype", dtype},
                                        {"muon_dtype", muon_dtype},
                                        {"ops", ops},
                                        {"threads", runtime.num_threads},
                                        {"torch", TORCH_VERSION},
                                        {"ms", rows},
                                        {"tokens", measured.tokens},
                                        {"tokens_per_s", tokens_per_s},
                                        {"flops", flops},
                                        {"flops_per_s", flops_per_s},
                                        {"peak_flops_per_s", peak_flops_per_s},
                                        {"peak_bytes", peak_bytes},
                                        {"cpu_share", cpu_share},
                                        {"first_loss", measured.first_loss},
                                        {"config", settings}};
    write_atomic(options.json, out.dump(1) + "\n");
  }
}

ExitCode run(int argc, char** argv) {
  std::vector<const char*> rest;
  const BenchOptions options = take_own_flags(argc, argv, &rest);
  if (options.help) {
    std::fputs(kUsage, stdout);
    return ExitCode::ok;
  }
  const TrainCommand command = resolve_train_command(static_cast<int>(rest.size()), rest.data(), read_environment(environ));
  if (command.stops() || !command.resume.empty()) {
    throw Error(ExitCode::usage, "bench_step accepts only train_gpt's settings, not its actions (--help, --resume, ...)",
                "see bench_step --help");
  }
  if (command.config.schedule.min_steps > 0)
    refuse(command.resolved, {"MIN_STEPS"}, "bench_step sets the number of steps with --steps", "remove it");
  for (const auto& warning : command.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  const auto& config = command.config;
  Process process = Process::from_environment([](const char* name) -> const char* { return std::getenv(name); });
  process.divide_step(config.dist.grad_accum_steps);
  const Runtime runtime = start_runtime(config.runtime, process);
  Group group(process, config.dist, runtime.device);
  Trainer trainer(config, command.resolved, runtime, group);
  trainer.set_extra_passes(config.model.num_loops);
  std::optional<Parts> parts;
  if (options.parts && runtime.cuda_graphs) {
    std::fprintf(stderr, "bench_step: the parts of a CUDA graph cannot be timed; use --cuda-graphs off to time them\n");
  } else if (options.parts) {
    parts.emplace(trainer, process);
  }

  const Measured measured = measure(options, trainer, parts);
  report(options, command, runtime, plan_micro_batches(config, runtime, process), measured);
  return ExitCode::ok;
}

}  // namespace
}  // namespace pgolf

int main(int argc, char** argv) {
  return pgolf::run_main([&] { return pgolf::run(argc, argv); });
}
