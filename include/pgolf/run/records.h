// The records of a run: the lines of metrics.jsonl, written during training, and of measures.jsonl, written by eval_gpt measure.
// Each record lists its fields once, in line order; record_file.h reads and writes by that list.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace pgolf {

/// Whether a number must be present. Text, lists and optional fields may always be missing.
enum class Need { required, optional };

// metrics.jsonl. Losses in nats, times in milliseconds of training.

/// The first line.
struct RunRecord {
  static constexpr const char* kKind = "run";
  std::string run_id = {}, version = {};
  int64_t rope_dims = 0;
  std::string rope_layers = {};
  int64_t head_dim = 0;
  std::string rope_dims_from = {};
  int64_t parameters = 0;
  std::map<std::string, std::string> config = {};

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("run_id", self.run_id);
    visit("version", self.version);
    visit("rope_dims", self.rope_dims, Need::optional);
    visit("rope_layers", self.rope_layers);
    visit("head_dim", self.head_dim, Need::optional);
    visit("rope_dims_from", self.rope_dims_from);
    visit("parameters", self.parameters, Need::optional);
    visit("config", self.config);
  }
};

/// An optimizer step.
struct TrainRecord {
  static constexpr const char* kKind = "train";
  int64_t step = 0;
  double train_loss = 0, lr_scale = 0, muon_momentum = 0;
  std::optional<double> grad_norm = {};
  int64_t tokens = 0;
  double train_time_ms = 0;

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("step", self.step);
    visit("train_loss", self.train_loss);
    visit("lr_scale", self.lr_scale, Need::optional);
    visit("muon_momentum", self.muon_momentum, Need::optional);
    visit("grad_norm", self.grad_norm);
    visit("tokens", self.tokens, Need::optional);
    visit("train_time_ms", self.train_time_ms, Need::optional);
  }
};

/// A validation.
struct ValRecord {
  static constexpr const char* kKind = "val";
  int64_t step = 0;
  double val_loss = 0, val_bpb = 0;
  int64_t tokens = 0, bytes = 0;
  double best_val_loss = 0;
  int64_t best_step = 0;
  double train_time_ms = 0;

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("step", self.step);
    visit("val_loss", self.val_loss);
    visit("val_bpb", self.val_bpb);
    visit("tokens", self.tokens, Need::optional);
    visit("bytes", self.bytes, Need::optional);
    visit("best_val_loss", self.best_val_loss, Need::optional);
    visit("best_step", self.best_step, Need::optional);
    visit("train_time_ms", self.train_time_ms, Need::optional);
  }
};

/// Text sampled from the model.
struct SampleRecord {
  static constexpr const char* kKind = "sample";
  int64_t step = 0;
  std::string text = {};

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("step", self.step);
    visit("text", self.text);
  }
};

/// The end of training.
struct EndRecord {
  static constexpr const char* kKind = "end";
  int64_t step = 0;
  double train_time_ms = 0;
  std::optional<int64_t> peak_allocated_bytes = {}, peak_reserved_bytes = {}, rope_table_bytes = {};

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("step", self.step, Need::optional);
    visit("train_time_ms", self.train_time_ms, Need::optional);
    visit("peak_allocated_bytes", self.peak_allocated_bytes);
    visit("peak_reserved_bytes", self.peak_reserved_bytes);
    visit("rope_table_bytes", self.rope_table_bytes);
  }
};

/// Another score of the model after training: its name says of which weights and how.
struct ScoreRecord {
  static constexpr const char* kKind = "score";
  std::string name = {};
  double val_loss = 0, val_bpb = 0;
  int64_t tokens = 0, bytes = 0;

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("name", self.name);
    visit("val_loss", self.val_loss);
    visit("val_bpb", self.val_bpb);
    visit("tokens", self.tokens, Need::optional);
    visit("bytes", self.bytes, Need::optional);
  }
};

/// The exported artifact, loaded and scored: the last line of a finished run.
struct FinalRecord {
  static constexpr const char* kKind = "final";
  double val_loss = 0, val_bpb = 0;
  int64_t tokens = 0, bytes = 0, model_bytes = 0, artifact_bytes = 0, code_bytes = 0, budget_bytes = 0, margin_bytes = 0;
  int64_t rope_dims = 0;

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("val_loss", self.val_loss, Need::optional);
    visit("val_bpb", self.val_bpb, Need::optional);
    visit("tokens", self.tokens, Need::optional);
    visit("bytes", self.bytes, Need::optional);
    visit("model_bytes", self.model_bytes, Need::optional);
    visit("artifact_bytes", self.artifact_bytes, Need::optional);
    visit("code_bytes", self.code_bytes, Need::optional);
    visit("budget_bytes", self.budget_bytes, Need::optional);
    visit("margin_bytes", self.margin_bytes, Need::optional);
    visit("rope_dims", self.rope_dims, Need::optional);
  }
};

// measures.jsonl: see docs/measurements.md.

/// The first line: the model.
struct MeasuredModelRecord {
  static constexpr const char* kKind = "measures";
  int64_t version = 1;
  std::string checkpoint = {}, format = {};
  int64_t train_seq_len = 0, head_dim = 0, num_layers = 0, num_heads = 0, num_kv_heads = 0;
  std::string rope_dims = {}, rope_layers = {};
  int64_t parameters = 0;
  std::vector<std::string> assumed = {};

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("version", self.version);
    visit("checkpoint", self.checkpoint);
    visit("format", self.format);
    visit("train_seq_len", self.train_seq_len);
    visit("head_dim", self.head_dim);
    visit("num_layers", self.num_layers);
    visit("num_heads", self.num_heads);
    visit("num_kv_heads", self.num_kv_heads);
    visit("rope_dims", self.rope_dims);
    visit("rope_layers", self.rope_layers);
    visit("parameters", self.parameters);
    visit("assumed", self.assumed);
  }
};

/// The loss at one window length.
struct LengthRecord {
  static constexpr const char* kKind = "length";
  int64_t seq_len = 0;
  std::optional<int64_t> tokens = {}, bytes = {};
  std::optional<double> val_loss = {}, val_bpb = {}, stderr_loss = {}, last_bucket_loss = {};
  std::optional<int64_t> rope_table_bytes = {}, rope_table_bytes_computed = {}, kv_cache_bytes = {};

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("seq_len", self.seq_len);
    visit("tokens", self.tokens);
    visit("bytes", self.bytes);
    visit("val_loss", self.val_loss);
    visit("val_bpb", self.val_bpb);
    visit("stderr_loss", self.stderr_loss);
    visit("last_bucket_loss", self.last_bucket_loss);
    visit("rope_table_bytes", self.rope_table_bytes);
    visit("rope_table_bytes_computed", self.rope_table_bytes_computed);
    visit("kv_cache_bytes", self.kv_cache_bytes);
  }
};

/// The loss of targets at positions from <= position < to in windows of that length.
struct PositionRecord {
  static constexpr const char* kKind = "position";
  int64_t seq_len = 0, from = 0, to = 0;
  std::optional<double> loss = {};
  int64_t tokens = 0;

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("seq_len", self.seq_len);
    visit("from", self.from);
    visit("to", self.to);
    visit("loss", self.loss);
    visit("tokens", self.tokens, Need::optional);
  }
};

struct RetrievalRecord {
  static constexpr const char* kKind = "retrieval";
  std::string task = {};
  int64_t seq_len = 0, distance = 0, items = 0;
  std::optional<double> accuracy = {}, stderr_accuracy = {}, loss = {};

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("task", self.task);
    visit("seq_len", self.seq_len);
    visit("distance", self.distance);
    visit("items", self.items, Need::optional);
    visit("accuracy", self.accuracy);
    visit("stderr", self.stderr_accuracy);
    visit("loss", self.loss);
  }
};

/// A head's means over its queries.
struct AttentionRecord {
  static constexpr const char* kKind = "attention";
  int64_t layer = 0, head = 0;
  std::optional<double> distance = {}, entropy = {}, first_token = {}, previous_token = {};

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("layer", self.layer);
    visit("head", self.head);
    visit("distance", self.distance);
    visit("entropy", self.entropy);
    visit("first_token", self.first_token);
    visit("previous_token", self.previous_token);
  }
};

/// The rotated dimensions' share of a head's logits.
struct LogitShareRecord {
  static constexpr const char* kKind = "logit_share";
  int64_t layer = 0, head = 0;
  std::optional<double> rotated = {};

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("layer", self.layer);
    visit("head", self.head);
    visit("rotated", self.rotated);
  }
};

/// The share of one of the pairs that rotate, pair counted from 0 as in ops/rope.h.
struct PairShareRecord {
  static constexpr const char* kKind = "pair_share";
  int64_t layer = 0, head = 0, pair = 0;
  double wavelength = 0;
  std::optional<double> share = {};

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("layer", self.layer);
    visit("head", self.head);
    visit("pair", self.pair);
    visit("wavelength", self.wavelength);
    visit("share", self.share);
  }
};

/// Change of the logits when all positions are shifted.
struct RelativeShiftRecord {
  static constexpr const char* kKind = "relative_shift";
  int64_t shift = 0;
  double max_change = 0, max_logit = 0;

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("shift", self.shift, Need::optional);
    visit("max_change", self.max_change);
    visit("max_logit", self.max_logit, Need::optional);
  }
};

}  // namespace pgolf
