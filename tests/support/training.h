// A training run small enough to be done many times.
#pragma once

#include <nlohmann/json.hpp>

#include "pgolf/base/text.h"
#include "pgolf/config/train_options.h"
#include "pgolf/train/trainer.h"
#include "support/dataset.h"
#include "support/models.h"
#include "support/program.h"

namespace pgolf::testing {

/// 2 layers of 32 lanes with 2 heads of 16, 128 tokens a step, float32, one thread, no cap, no warm-up.
inline Variables tiny_variables() {
  const auto& data = Dataset::get();
  return {{"DATA_PATH", data.data_path()},
          {"TOKENIZER_PATH", data.tokenizer_path()},
          {"VOCAB_SIZE", std::to_string(data.vocab_size)},
          {"NUM_LAYERS", "2"},
          {"MODEL_DIM", "32"},
          {"NUM_HEADS", "2"},
          {"NUM_KV_HEADS", "1"},
          {"TRAIN_SEQ_LEN", "16"},
          {"TRAIN_BATCH_TOKENS", "128"},
          {"VAL_BATCH_SIZE", "512"},
          {"EVAL_TOKENS", "512"},
          {"ITERATIONS", "2"},
          {"WARMDOWN_ITERS", "0"},
          {"WARMUP_STEPS", "0"},
          {"MAX_WALLCLOCK_SECONDS", "0"},
          {"VAL_LOSS_EVERY", "0"},
          {"DTYPE", "float32"},
          {"DEVICE", "cpu"},
          {"NUM_THREADS", "1"}};
}

/// The tiny run with some variables changed.
inline Variables tiny_variables(const Variables& changes) {
  Variables variables = tiny_variables();
  for (const auto& [name, value] : changes) variables[name] = value;
  return variables;
}

inline TrainCommand tiny_command(const Variables& changes = {}) {
  const char* argv[] = {"train_gpt"};
  return resolve_train_command(1, argv, tiny_variables(changes));
}

/// A trainer of the tiny run and a folder for it.
class TinyRun {
 public:
  TinyRun(std::initializer_list<Variables::value_type> changes = {}) : TinyRun(Variables(changes)) {}
  explicit TinyRun(const Variables& changes)
      : command_(tiny_command(changes)),
        run_{folder_ / "run"},
        trainer_(command_.config, command_.resolved, start_runtime(command_.config.runtime), group_) {
    run_.create();
  }

  Trainer& trainer() { return trainer_; }
  const TrainCommand& command() const { return command_; }
  const RunFolder& folder() const { return run_; }
  ExitCode train() { return trainer_.train(run_); }
  StateDict weights() { return clone_state(state_dict(trainer_.model())); }
  Checkpoint checkpoint(int step) const { return load_checkpoint(run_.checkpoints() / format("step_%08d.safetensors", step)); }

 private:
  TempFolder folder_;
  Group group_;
  TrainCommand command_;
  RunFolder run_;
  Trainer trainer_;
};

/// The lines of a metrics.jsonl; with one that is no JSON object the test fails.
inline std::vector<nlohmann::json> read_metrics(const fs::path& path) {
  std::vector<nlohmann::json> lines;
  for (const auto& text : split(read_text(path), '\n')) {
    if (text.empty()) continue;
    lines.push_back(nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false));
    EXPECT_TRUE(lines.back().is_object()) << text;
  }
  return lines;
}

/// Without what differs between equal runs: times, and the process's memory.
inline std::vector<nlohmann::json> without_times(std::vector<nlohmann::json> lines) {
  for (auto& line : lines) {
    for (const char* key : {"train_time_ms", "peak_allocated_bytes", "peak_reserved_bytes"}) line.erase(key);
  }
  return lines;
}

inline int count_kind(const std::vector<nlohmann::json>& lines, const std::string& kind) {
  return static_cast<int>(
      std::count_if(lines.begin(), lines.end(), [&](const nlohmann::json& line) { return line.value("kind", "") == kind; }));
}

}  // namespace pgolf::testing
