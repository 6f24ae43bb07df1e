#include "pgolf/train/trainer.h"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>

#include "gradient_average.h"
#include "pgolf/base/cpu_level.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/stopwatch.h"
#include "pgolf/base/version.h"
#include "pgolf/config/model_options.h"
#include "pgolf/data/byte_check.h"
#include "pgolf/data/shard_manifest.h"
#include "pgolf/ops/attention.h"
#include "pgolf/ops/linear.h"
#include "pgolf/optim/schedule.h"
#include "profile.h"
#include "provenance.h"
#include "replicas.h"
#include "run_log.h"
#include "snapshots.h"
#include "step_graph.h"
#include "training_clock.h"

namespace pgolf {
namespace {

bool is_multiple(int64_t step, int every) {
  return every > 0 && step % every == 0;
}

Gpt make_model(const RunConfig& config, const Runtime& runtime) {
  torch::manual_seed(static_cast<uint64_t>(config.runtime.seed));
  Gpt model(config.model, config.runtime.ops);
  set_parameter_precision(model, runtime.dtype, config.optim.control_patterns);
  model->to(runtime.device);
  return model;
}

Tokenizer checked_tokenizer(const RunConfig& config) {
  Tokenizer tokenizer(config.data.tokenizer_path);
  tokenizer.require_vocab_size(config.model.vocab_size);
  for (const auto& files : {config.data.val_files(), config.data.train_files()})
    require_tokenizer_of_shards(find_shards(files), tokenizer);
  return tokenizer;
}

// Windows per validation batch, as in upstream's eval_val.
int64_t validation_sequences(const RunConfig& config, const Process& process) {
  return config.data.val_batch_size / (process.world_size() * process.grad_accum_steps()) / config.data.train_seq_len;
}

std::string python_bool(bool value) {
  return value ? "True" : "False";
}

std::optional<at::ScalarType> sum_dtype(DtypeChoice choice) {
  if (choice == DtypeChoice::automatic) return std::nullopt;
  return choice == DtypeChoice::bfloat16 ? at::kBFloat16 : at::kFloat;
}

/// What NCCL sends can be recorded; what gloo sends goes through the host.
Runtime runtime_for(const Runtime& runtime, const Group& group) {
  Runtime own = runtime;
  if (group.connected() && !group.on_device()) own.cuda_graphs = false;
  return own;
}

}  // namespace

Trainer::Trainer(const RunConfig& config, std::vector<ResolvedOption> resolved, const Runtime& runtime, Group& group)
    : config_(config),
      resolved_(std::move(resolved)),
      runtime_(runtime_for(runtime, group)),
      group_(group),
      tokenizer_(checked_tokenizer(config)),
      metadata_(metadata_for_file({config.model, config.data.train_seq_len, tokenizer_.fingerprint()})),
      byte_counts_(tokenizer_, config.model.vocab_size, config.data.byte_counting),
      validation_(config.data.val_files(), config.data.train_seq_len, config.data.eval_tokens, config.model.vocab_size),
      model_(make_model(config, runtime)),
      optimizers_(model_, config.optim, runtime.dtype, group.process(), config.runtime.ops),
      average_(model_, config.optim.ema_decay),
      micro_batches_(config, runtime, group.process()),
      replicas_(std::make_unique<Replicas>(model_, config.runtime.ops, micro_batches_.plan().parallel)),
      gradient_average_(std::make_unique<GradientAverage>(model_, group, sum_dtype(config.dist.gradient_dtype))),
      report_(torch::zeros({micro_batches_.count() + static_cast<int64_t>(model_->parameters().size())},
                           at::TensorOptions().device(runtime.device).dtype(at::kFloat))),
      losses_(report_.narrow(0, 0, micro_batches_.count())) {
  const auto graphs = std::make_shared<bool>(runtime_.cuda_graphs);
  const auto memory = [this] {
    std::vector<const void*> addresses;
    for (const auto& parameter : model_->parameters()) {
      addresses.push_back(parameter.const_data_ptr());
      if (parameter.grad().defined()) addresses.push_back(parameter.grad().const_data_ptr());
    }
    return addresses;
  };
  const auto agree = [this](bool holds) { return group_.max({holds ? 1.0 : 0.0})[0] > 0; };
  gradient_graph_ = std::make_unique<StepGraph>(graphs, memory, agree);
  update_graph_ = std::make_unique<StepGraph>(graphs, memory, agree);
  byte_counts_.require_text(validation_.tokens());
  set_extra_passes(0);
  state_.model = metadata_;
  for (const auto& option : resolved_) state_.config[option.name] = option.text;
  state_.arithmetic = arithmetic_of(runtime_);
}

Trainer::~Trainer() = default;

void Trainer::log_setup() const {
  const auto& data = config_.data;
  const auto& model = config_.model;
  log::info(format("val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=%s", data.tokenizer_path.c_str()));
  if (data.byte_counting != ByteCounting::rule) log::info(format("byte_count:%s", enum_text(data.byte_counting)));
  if (group_.is_master()) warn_of_byte_counts(tokenizer_, data.byte_counting, validation_.tokens());
  log::info(format("train_loader:dataset:%s train_shards:%zu",
                   std::filesystem::absolute(data.data_path).lexically_normal().filename().c_str(), micro_batches_.file_count()));
  log::info(format("val_loader:shards pattern=%s tokens:%zu", data.val_files().c_str(), validation_.tokens().size() - 1));
  log::info(format("model_params:%lld", static_cast<long long>(model.parameter_count())));
  log::info(format("world_size:%d grad_accum_steps:%d", group_.world_size(), group_.process().grad_accum_steps()));
  if (group_.connected()) log::info(format("dist_backend:%s", group_.backend()));
  const bool cudnn = runtime_.device.is_cuda() && config_.runtime.ops == OpsPath::fast && !config_.runtime.deterministic;
  log::info(format("sdp_backends:cudnn=%s flash=True mem_efficient=False math=True", python_bool(cudnn).c_str()));
  for (const int window : std::set<int>(model.attention_window.begin(), model.attention_window.end())) {
    const char* backend =
        ops::attention_backend(model.num_heads, model.num_kv_heads, data.train_seq_len, model.head_dim(),
                               at::TensorOptions().device(runtime_.device).dtype(runtime_.dtype), config_.runtime.ops, window);
    log::info(std::string("attention_backend:") + backend + (window == 0 ? "" : " window:" + std::to_string(window)));
  }
  log::info(format("attention_mode:gqa num_heads:%d num_kv_heads:%d", model.num_heads, model.num_kv_heads));
  log::info(format("tie_embeddings:%s embed_lr:%s head_lr:%s matrix_lr:%s scalar_lr:%s",
                   python_bool(model.tie_embeddings).c_str(), python_float(optimizers_.token_lr()).c_str(),
                   python_float(model.tie_embeddings ? 0.0 : config_.optim.head_lr).c_str(),
                   python_float(config_.optim.matrix_lr).c_str(), python_float(config_.optim.scalar_lr).c_str()));
  log::info(format("micro_batches:%lld of %lld tokens, %d in parallel", static_cast<long long>(micro_batches_.count()),
                   static_cast<long long>(data.train_batch_tokens / (group_.world_size() * micro_batches_.count())),
                   micro_batches_.plan().parallel));
  log::info(format("train_batch_tokens:%lld train_seq_len:%d iterations:%d warmup_steps:%d max_wallclock_seconds:%.3f",
                   static_cast<long long>(data.train_batch_tokens), data.train_seq_len, config_.schedule.iterations,
                   config_.schedule.warmup_steps, config_.schedule.max_wallclock_seconds));
  const auto chosen = [this](const char* name) { return std::string(name) + "=" + find_option(resolved_, name).text; };
  log::info("shape:" + shape_summary(resolved_) + " " + chosen("OPTIMIZER") + " " + chosen("LR_SCHEDULE"));
  log::info(format("seed:%lld", static_cast<long long>(config_.runtime.seed)));
  log::info("rope_dims:" + rope_summary(model, resolved_));
  if (runtime_.device.is_cuda()) {
    log::info(format("cuda_graphs:%s deterministic:%s %s", runtime_.cuda_graphs ? "on" : "off",
                     config_.runtime.deterministic ? "on" : "off", gpu_description(runtime_.device).c_str()));
  }
  log::info(format("device:%s dtype:%s ops:%s threads:%d cpu_level:%s", runtime_.device.str().c_str(), dtype_name(runtime_.dtype),
                   enum_text(config_.runtime.ops), runtime_.num_threads, cpu_level_name(cpu_level())));
}

std::optional<EvalResult> Trainer::validate() {
  Progress bar("validating", validation_.sequences());
  EvalOptions options;
  options.seq_len = config_.data.train_seq_len;
  options.batch_sequences = validation_sequences(config_, group_.process());
  options.rank = group_.rank();
  options.world_size = group_.world_size();
  options.device = runtime_.device;
  options.progress = [&bar](int64_t done, int64_t) { bar.update(done); };
  bool stopped = false;
  options.stop = [&stopped] { return stopped = stop_signal() != 0; };
  const EvalSums share = evaluate_share(model_, validation_, byte_counts_, options);
  return sum_shares(share, stopped);
}

std::optional<EvalResult> Trainer::sum_shares(const EvalSums& share, bool stopped) {
  const auto sums =
      group_.sum({share.loss, static_cast<double>(share.tokens), static_cast<double>(share.bytes), stopped ? 1.0 : 0.0});
  if (sums[3] > 0) return std::nullopt;
  return EvalSums{sums[0], static_cast<int64_t>(sums[1]), static_cast<int64_t>(sums[2])}.result();
}

void Trainer::clear_gradients() {
  if (!runtime_.cuda_graphs) return optimizers_.zero_grad();
  // A recording depends on the gradients' memory.
  torch::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : model_->parameters()) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  if (!gradients.empty()) at::_foreach_zero_(gradients);
}

/// Device work only; depends only on the weights and the loaded tokens.
void Trainer::accumulate_gradients() {
  // The fast path must derive its data from the weights within the recording.
  if (runtime_.cuda_graphs) {
    for (const auto& parameter : model_->parameters()) ops::mark_changed(parameter);
  }
  clear_gradients();
  gradient_average_->reset();
  const bool in_order = micro_batches_.plan().parallel == 1;
  replicas_->run(micro_batches_.count(), [&](Gpt& model, int64_t i) {
    if (in_order && i == micro_batches_.count() - 1) gradient_average_->start();
    const auto [inputs, targets] = micro_batches_.get(i);
    const double weight = 1.0 / static_cast<double>(micro_batches_.count());
    const auto loss = model(inputs, targets, weight);
    losses_[i].copy_(loss.detach());
    (loss * weight).backward();
  });
  gradient_average_->finish();
}

/// Stores the norms after the losses, so that both are copied to the host together.
void Trainer::measure_gradients() {
  const auto norms = gradient_norms(model_->parameters());
  norms_ = report_.narrow(0, losses_.numel(), norms.numel());
  norms_.copy_(norms);
}

std::vector<float> Trainer::losses_of_all_ranks(const at::Tensor& losses) {
  const auto ranks = static_cast<size_t>(group_.world_size()), count = static_cast<size_t>(losses.numel());
  std::vector<double> all(count * ranks);
  for (size_t i = 0; i < count; ++i) {
    all[i * ranks + static_cast<size_t>(group_.rank())] = losses.const_data_ptr<float>()[i];
  }
  all = group_.sum(std::move(all));
  return {all.begin(), all.end()};
}

StepRecord Trainer::forward_backward() {
  micro_batches_.load();
  gradient_graph_->run(
      [this] {
        accumulate_gradients();
        measure_gradients();
      },
      losses_);
  StepRecord record;
  float sum = 0;
  const auto report = report_.cpu();
  for (const float loss : losses_of_all_ranks(report.narrow(0, 0, losses_.numel()))) {
    record.micro_losses.push_back(loss);
    sum += loss;
  }
  record.train_loss = sum / static_cast<float>(record.micro_losses.size());
  const auto norms = report.narrow(0, losses_.numel(), norms_.numel());
  record.grad_norm = at::linalg_vector_norm(norms, 2, std::nullopt, false, at::kDouble).item<double>();
  return record;
}

void Trainer::require_finite(const StepRecord& record) const {
  const auto fail = [&](const std::string& what) {
    throw Error(
        ExitCode::non_finite,
        format("%s at step %lld; this step did not change any weights", what.c_str(), static_cast<long long>(record.step)),
        "restart with lower learning rates or GRAD_CLIP_NORM; earlier steps are in checkpoints/ if SAVE_EVERY was set");
  };
  if (!std::isfinite(record.train_loss)) fail(format("train_loss is %s", python_float(record.train_loss).c_str()));
  if (std::isfinite(record.grad_norm)) return;
  // Sums of squares are fast, but can overflow.
  for (const auto& item : model_->named_parameters()) {
    const auto& gradient = item.value().grad();
    if (gradient.defined() && !at::isfinite(gradient).all().item<bool>())
      fail("the gradient of " + item.key() + " is not finite");
  }
}

void Trainer::apply_gradients(StepRecord* record, double elapsed_ms) {
  const int done = static_cast<int>(state_.step);
  record->step = state_.step + 1;
  record->lr_scale = lr_scale(config_.schedule, done, elapsed_ms);
  record->muon_momentum = muon_momentum(config_.optim, done);
  require_finite(*record);
  update_weights(record->lr_scale, record->muon_momentum);
  state_.step = record->step;
}

void Trainer::update_weights(double lr_scale, double muon_momentum) {
  optimizers_.schedule(lr_scale, muon_momentum);
  update_graph_->run([this] {
    if (config_.optim.grad_clip_norm > 0) clip_grad_norm(model_->parameters(), config_.optim.grad_clip_norm);
    optimizers_.step(group_);
    average_.update();
  });
  if (!runtime_.cuda_graphs) return optimizers_.zero_grad();
  // LibTorch does not notice that a replay changes the weights.
  for (const auto& parameter : model_->parameters()) ops::mark_changed(parameter);
}

void Trainer::warmup_step() {
  forward_backward();
  // Base learning rates and momentum, as in upstream's warmup.
  update_weights(1.0, config_.optim.muon_momentum);
}

void Trainer::forget_graphs() {
  gradient_graph_->forget();
  update_graph_->forget();  // cuBLAS's workspace, which both use, may go with the other
}

void Trainer::set_extra_passes(int passes) {
  replicas_->set_extra_passes(passes);
  forget_graphs();
  state_.extra_passes = passes;
}

void Trainer::drop_rotation() {
  replicas_->drop_rotation();
  forget_graphs();
  config_.model.rope_dims = 0;
  metadata_ = metadata_for_file({config_.model, config_.data.train_seq_len, tokenizer_.fingerprint()});
  state_.model = metadata_;
}

void Trainer::advance_phases(double elapsed_ms, const RunLog& log) {
  const double used = used_fraction(config_.schedule, static_cast<int>(state_.step), elapsed_ms);
  const double drop_at = config_.schedule.rope_drop_at;
  if (drop_at >= 0 && used >= drop_at && !config_.model.widest_rope().none()) {
    drop_rotation();
    log.rotation_dropped(state_.step, used);
  }
  const int passes = extra_passes(config_.schedule, config_.model.num_loops, state_.extra_passes, used);
  if (passes == state_.extra_passes) return;
  set_extra_passes(passes);
  log.looping(state_.step, used, model_->order());
}

void Trainer::warm_up(int steps) {
  StateDict saved;
  for (const auto& [name, tensor] : training_tensors()) saved.emplace_back(name, tensor.clone());
  const TokenCursor start = micro_batches_.cursor();
  const int passes = state_.extra_passes;
  const auto run = [&] {
    for (int i = 0; i < steps && agree(0).signal == 0; ++i) {
      warmup_step();  // undone below
      if (steps <= 20 || (i + 1) % 10 == 0 || i + 1 == steps) log::info(format("warmup_step:%d/%d", i + 1, steps));
    }
  };
  run();
  // Also with loops, so that a machine with too little memory fails now.
  while (state_.extra_passes < config_.model.num_loops) {
    set_extra_passes(extra_passes(config_.schedule, config_.model.num_loops, state_.extra_passes, /*used=*/1));
    run();
  }
  if (state_.extra_passes != passes) {
    set_extra_passes(passes);
    // Its recordings are gone: one step to prepare the next ones, one to record.
    for (int i = 0; runtime_.cuda_graphs && i < 2 && agree(0).signal == 0; ++i) warmup_step();
  }
  torch::NoGradGuard no_grad;
  const auto live = training_tensors();
  for (size_t i = 0; i < live.size(); ++i) live[i].second.copy_(saved[i].second);
  micro_batches_.seek(start);
}

Trainer::Agreed Trainer::agree(double elapsed_ms) {
  const auto agreed = group_.max({elapsed_ms, static_cast<double>(stop_signal())});
  return {agreed[0], static_cast<int>(agreed[1])};
}

void Trainer::check_ranks() {
  std::vector<std::pair<std::string, at::Tensor>> weights;
  for (const auto& item : model_->named_parameters()) weights.emplace_back(item.key(), item.value());
  group_.require_equal(weights);
}

RecordFile& Trainer::records(const RunFolder& folder) {
  if (!records_) {
    records_.emplace(folder.metrics(), restored_ ? state_.step : -1);
    if (config_.output.loggers == LoggerChoice::tensorboard) records_->add_events();
  }
  return *records_;
}

ExitCode Trainer::train(const RunFolder& folder) {
  if (!restored_) average_.restart();  // the caller may have set the weights
  share_state();
  RunLog log(folder, config_, group_.is_master() ? &records(folder) : nullptr);
  if (restored_) log.resumed(state_);
  log.started(run_record(folder));
  // A resumed run has no warmup, but on a GPU the first step loads libraries and the second is recorded, which is no training
  // time.
  const int warmup_steps = !restored_ ? config_.schedule.warmup_steps : runtime_.device.is_cuda() ? 2 : 0;
  if (warmup_steps > 0) warm_up(warmup_steps);
  StopCondition stop(config_.schedule);
  StepProfiler profiler(group_.is_master() ? config_.output.profile_steps : 0, folder, runtime_.device);
  TrainingClock clock(runtime_.device, &state_.training_time_ms);
  Agreed now = agree(clock.now_ms());
  if (state_.step > 0) stop.check_time(state_.step, now.elapsed_ms);  // a resumed run may have no time left
  while (true) {
    // A checkpoint is saved before its step is validated, so a resumed run validates first.
    const bool last = stop.reached(state_.step);
    if (last || is_multiple(state_.step, config_.output.val_loss_every)) {
      clock.pause();
      if (const auto result = validate()) record_validation(*result, log);
      now.signal = agree(0).signal;
      clock.resume();
    }
    if (now.signal != 0) {
      clock.pause();
      FinalFiles files(folder, config_.output.fallback_dir);
      log.interrupted(now.signal, state_.step, save_at_last(folder, files));
      files.require_complete();
      return ExitCode::interrupted;
    }
    if (last) break;
    advance_phases(now.elapsed_ms, log);
    profiler.begin_step();
    const StepRecord record = step(now.elapsed_ms);
    profiler.end_step();
    now = agree(clock.now_ms());
    log.step(record, now.elapsed_ms, stop.time_is_up());
    if (on_step) on_step(record);
    stop.check_time(record.step, now.elapsed_ms);
    if (shows_model(record.step)) {
      clock.pause();
      show_model(record.step, log);
      clock.resume();
    }
    if (is_multiple(record.step, config_.output.save_every)) {
      clock.pause();
      save_if_possible(folder);
      clock.resume();
    }
    if (is_multiple(record.step, config_.dist.check_ranks)) check_ranks();
  }
  if (config_.dist.check_ranks > 0) check_ranks();
  if (stop.stopped_early(state_.step)) log.stopped_early(state_);
  profiler.finish();
  log.ended(state_, peak_memory(runtime_.device), model_->rope_table_bytes());
  if (average_.enabled()) average_weights(log);
  return ExitCode::ok;
}

bool Trainer::shows_model(int64_t step) const {
  return is_multiple(step, config_.output.sample.every) || is_multiple(step, config_.output.histogram_every);
}

void Trainer::show_model(int64_t step, RunLog& log) {
  if (!group_.is_master()) return;
  if (is_multiple(step, config_.output.sample.every))
    log.sampled(step, sample_text(model_, tokenizer_, config_.output.sample, config_.data.train_seq_len, runtime_.device));
  if (!is_multiple(step, config_.output.histogram_every)) return;
  for (const auto& item : model_->named_parameters()) {
    if (const auto found = histogram_of(item.value())) log.events()->histogram(step, item.key(), *found);
  }
}

void Trainer::average_weights(RunLog& log) {
  log.averaging();
  average_.copy_to_model();
  const Stopwatch watch;
  const auto result = validate();
  if (!result) return;
  log.scored("post_ema", *result, watch.milliseconds());
}

StepRecord Trainer::step(double elapsed_ms) {
  StepRecord record = forward_backward();
  apply_gradients(&record, elapsed_ms);
  return record;
}

void Trainer::record_validation(const EvalResult& result, RunLog& log) {
  if (state_.best_val_loss == 0 || result.val_loss < state_.best_val_loss) {
    state_.best_val_loss = result.val_loss;
    state_.best_step = state_.step;
  }
  log.validated(result, state_, peak_memory(runtime_.device));
}

RunRecord Trainer::run_record(const RunFolder& folder) const {
  const auto& model = config_.model;
  return {.run_id = folder.path.filename().string(),
          .version = program_version(),
          .rope_dims = model.widest_rope().rope_dims,
          .rope_layers = find_option(resolved_, "ROPE_LAYERS").text,
          .head_dim = model.head_dim(),
          .rope_dims_from = find_option(resolved_, "ROPE_DIMS").origin,
          .parameters = model.parameter_count(),
          .config = state_.config};
}

}  // namespace pgolf
