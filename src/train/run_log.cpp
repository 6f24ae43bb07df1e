#include "run_log.h"

#include <algorithm>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"

namespace pgolf {

void write_score(RecordFile& records, const char* name, const EvalResult& result, double eval_ms) {
  log::info(format("%s val_loss:%.8f val_bpb:%.8f eval_time:%.0fms", name, result.val_loss, result.val_bpb, eval_ms));
  records.write(ScoreRecord{
      .name = name, .val_loss = result.val_loss, .val_bpb = result.val_bpb, .tokens = result.tokens, .bytes = result.bytes});
}

RunLog::RunLog(const RunFolder& folder, const RunConfig& config, RecordFile* records)
    : folder_(folder), config_(config), records_(records) {
  if (records_ != nullptr) bar_.emplace("training", config.schedule.iterations);
}

void RunLog::log_line(const std::string& line) const {
  if (records_ != nullptr) log::info(line);
}

void RunLog::started(const RunRecord& record) {
  if (!std::filesystem::exists(folder_.metrics())) write(record);
  if (auto* file = events()) {
    std::string table = "| option | value |\n|---|---|\n";
    for (const auto& [name, value] : record.config) table += "| " + name + " | " + value + " |\n";
    file->text(0, "config", table);
  }
}

void RunLog::resumed(const TrainingState& state) {
  log_line(format("resumed:step:%lld train_time:%.0fms", static_cast<long long>(state.step), state.training_time_ms));
  last_step_ms_ = state.training_time_ms;
}

void RunLog::step(const StepRecord& record, double now_ms, bool last) {
  const int every = config_.output.train_log_every;
  if (every > 0 && (record.step <= 10 || record.step % every == 0 || last)) {
    log_line(format("step:%lld/%d train_loss:%.4f train_time:%.0fms step_avg:%.2fms", static_cast<long long>(record.step),
                    config_.schedule.iterations, record.train_loss, now_ms, now_ms / static_cast<double>(record.step)));
  }
  write(TrainRecord{.step = record.step,
                    .train_loss = record.train_loss,
                    .lr_scale = record.lr_scale,
                    .muon_momentum = record.muon_momentum,
                    .grad_norm = record.grad_norm,
                    .tokens = record.step * config_.data.train_batch_tokens,
                    .train_time_ms = now_ms});
  if (events() != nullptr) write_rates(record, now_ms);
  if (bar_) show_progress(record, now_ms);
}

void RunLog::write_rates(const StepRecord& record, double now_ms) {
  const OptimConfig& optim = config_.optim;
  EventFile::Scalars scalars{{"train/matrix_lr", optim.matrix_lr}, {"train/scalar_lr", optim.scalar_lr}};
  if (config_.model.tie_embeddings) {
    scalars.emplace_back("train/tied_embed_lr", optim.tied_embed_lr);
  } else {
    scalars.emplace_back("train/embed_lr", optim.embed_lr);
    scalars.emplace_back("train/head_lr", optim.head_lr);
  }
  for (auto& [tag, rate] : scalars) rate *= record.lr_scale;
  const double seconds = (now_ms - last_step_ms_) / 1000.0;
  if (seconds > 0)
    scalars.emplace_back("train/tokens_per_second", static_cast<double>(config_.data.train_batch_tokens) / seconds);
  last_step_ms_ = now_ms;
  events()->scalars(record.step, scalars);
}

void RunLog::show_progress(const StepRecord& record, double now_ms) {
  const double step_avg = now_ms / static_cast<double>(record.step), cap_ms = config_.schedule.cap_ms();
  const double steps_left_ms = step_avg * static_cast<double>(config_.schedule.iterations - record.step);
  const double left_ms = cap_ms > 0 ? std::min(cap_ms - now_ms, steps_left_ms) : steps_left_ms;
  const auto tokens_per_second = static_cast<int64_t>(static_cast<double>(config_.data.train_batch_tokens) * 1000.0 / step_avg);
  bar_->update(record.step, format("loss %.4f  %s tok/s  %s left", record.train_loss, with_commas(tokens_per_second).c_str(),
                                   human_duration(left_ms / 1000.0).c_str()));
}

void RunLog::sampled(int64_t step, const std::string& text) {
  log_line(format("sample: step:%lld %s", static_cast<long long>(step), nlohmann::json(text).dump().c_str()));
  write(SampleRecord{.step = step, .text = text});
}

void RunLog::validated(const EvalResult& result, const TrainingState& state, const PeakMemory& memory) {
  const double step_avg = state.training_time_ms / static_cast<double>(std::max<int64_t>(state.step, 1));
  log_line(format("step:%lld/%d val_loss:%.4f val_bpb:%.4f train_time:%.0fms step_avg:%.2fms", static_cast<long long>(state.step),
                  config_.schedule.iterations, result.val_loss, result.val_bpb, state.training_time_ms, step_avg));
  write(ValRecord{.step = state.step,
                  .val_loss = result.val_loss,
                  .val_bpb = result.val_bpb,
                  .tokens = result.tokens,
                  .bytes = result.bytes,
                  .best_val_loss = state.best_val_loss,
                  .best_step = state.best_step,
                  .train_time_ms = state.training_time_ms});
  if (auto* file = events()) {
    file->scalars(state.step, {{"memory/peak_allocated_bytes", static_cast<double>(memory.allocated)},
                               {"memory/peak_reserved_bytes", static_cast<double>(memory.reserved)}});
  }
}

void RunLog::looping(int64_t step, double used, const BlockOrder& order) const {
  const auto listed = [](const std::vector<int>& layers) {
    std::vector<std::string> texts;
    for (const int layer : layers) texts.push_back(std::to_string(layer));
    return "[" + join(texts, ", ") + "]";
  };
  log_line(format("layer_loop:enabled step:%lld frac:%.3f encoder:%s decoder:%s", static_cast<long long>(step), used,
                  listed(order.encoder).c_str(), listed(order.decoder).c_str()));
}

void RunLog::rotation_dropped(int64_t step, double used) const {
  log_line(format("rope:dropped step:%lld frac:%.3f", static_cast<long long>(step), used));
}

void RunLog::interrupted(int signal, int64_t step, const std::filesystem::path& saved) {
  log_line(format("interrupted: signal:%d step:%lld/%d saved:%s", signal, static_cast<long long>(step),
                  config_.schedule.iterations, saved.c_str()));
}

void RunLog::stopped_early(const TrainingState& state) {
  log_line(format("stopping_early: wallclock_cap train_time:%.0fms step:%lld/%d", state.training_time_ms,
                  static_cast<long long>(state.step), config_.schedule.iterations));
}

void RunLog::ended(const TrainingState& state, const PeakMemory& memory, int64_t rope_table_bytes) {
  if (bar_) bar_->finish();
  write(EndRecord{.step = state.step,
                  .train_time_ms = state.training_time_ms,
                  .peak_allocated_bytes = memory.allocated,
                  .peak_reserved_bytes = memory.reserved,
                  .rope_table_bytes = rope_table_bytes});
  constexpr int64_t mebibyte = 1024 * 1024;
  log_line(format("peak memory allocated: %lld MiB reserved: %lld MiB", static_cast<long long>(memory.allocated / mebibyte),
                  static_cast<long long>(memory.reserved / mebibyte)));
}

void RunLog::averaging() const {
  log_line("ema:applying EMA weights");
}

void RunLog::scored(const char* name, const EvalResult& result, double eval_ms) const {
  if (records_ != nullptr) write_score(*records_, name, result, eval_ms);
}

}  // namespace pgolf
