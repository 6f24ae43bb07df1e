#include "pgolf/eval/measure.h"

#include <map>
#include <numbers>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/config/cache_size.h"
#include "pgolf/eval/attention_probe.h"
#include "pgolf/eval/measured_tables.h"
#include "pgolf/eval/retrieval.h"
#include "pgolf/eval/score.h"
#include "pgolf/run/record_file.h"
#include "pgolf/validation/windows.h"

namespace pgolf {
namespace {

using MeasureRow = nlohmann::ordered_json;

// Position shifts in tokens, for relative_shift.
constexpr int64_t kShifts[] = {1, 16, 256, 4096};

struct LengthScore {
  ScoreSummary summary;
  std::vector<PositionBucket> buckets;
};

/// The measurements of one model: shared state, and the rows so far.
class Measurement {
 public:
  Measurement(Gpt& model, const ModelFile& file, const Tokenizer& tokenizer, const MeasureOptions& options)
      : model_(model),
        config_(model->config()),
        train_seq_len_(file.stored.train_seq_len),
        options_(options),
        tokenizer_(tokenizer),
        byte_counts_(tokenizer, config_.vocab_size, options.byte_counting),
        region_(scored_region()) {}

  void lengths() {
    // The training length first, then the others in ascending order; check_training_length_again() repeats it.
    std::map<int, LengthScore> measured;
    measured[train_seq_len_] = measure_length(train_seq_len_);
    for (const int seq_len : options_.seq_lens) {
      if (seq_len != train_seq_len_) measured[seq_len] = measure_length(seq_len);
    }
    for (const auto& [seq_len, loss] : measured) add_length(seq_len, loss);
    first_loss_ = measured[train_seq_len_].summary.total.val_loss;
  }

  void check_training_length_again() {
    if (options_.seq_lens.back() == train_seq_len_) return;
    const double again = measure_length(train_seq_len_).summary.total.val_loss;
    if (again == first_loss_) return;
    throw Error(
        ExitCode::internal,
        format("the loss at the training length was %.17g before longer windows and is %.17g after them", first_loss_, again),
        "this is a bug in the program; please report it with the command line");
  }

  void retrieval() {
    if (options_.retrieval_items == 0) return;
    const auto tokens = ordinary_tokens(tokenizer_);
    const int bos_id = tokenizer_.required_bos_id();
    const auto validation = ValidationSet::whole(options_.val_files, region_, config_.vocab_size);
    const auto seed = static_cast<uint64_t>(options_.seed);
    const int longest = options_.seq_lens.back();
    for (const int64_t distance : induction_distances(longest)) {
      add_retrieval("induction", longest, distance, induction_items(tokens, bos_id, distance, options_.retrieval_items, seed));
    }
    for (const int seq_len : options_.seq_lens) {
      for (const int64_t distance : passkey_distances(seq_len)) {
        add_retrieval("passkey", seq_len, distance,
                      passkey_items(validation.tokens(), tokens, seq_len, distance, options_.retrieval_items, seed));
      }
    }
  }

  void attention() {
    if (options_.probe_windows == 0) return;
    report("attention", 0, 1);
    const ValidationSet validation(options_.val_files, train_seq_len_, region_, config_.vocab_size);
    const int64_t windows = std::min<int64_t>(options_.probe_windows, validation.sequences());
    std::vector<at::Tensor> inputs;
    for (int64_t i = 0; i < windows; ++i) {
      const int64_t at = i * validation.sequences() / windows;
      inputs.push_back(read_windows(validation.tokens(), train_seq_len_, at, 1, options_.device).inputs);
    }
    const auto measures = measure_attention(model_, at::cat(inputs), {std::begin(kShifts), std::end(kShifts)});
    report("attention", 1, 1);
    add_attention(measures);
  }

  std::vector<MeasureRow> take_rows() { return std::move(rows_); }

 private:
  /// Number of targets that all lengths score, as far as their windows allow.
  int64_t scored_region() const {
    const int64_t longest = options_.seq_lens.back();
    const int64_t available = ValidationSet::whole(options_.val_files, 0, config_.vocab_size).targets();
    if (available < longest) {
      throw Error(ExitCode::bad_input,
                  format("EVAL_SEQ_LENS has a window of %lld tokens, but %s has %lld tokens; one window and its last target "
                         "need %lld",
                         static_cast<long long>(longest), options_.val_files.c_str(), static_cast<long long>(available + 1),
                         static_cast<long long>(longest + 1)),
                  "remove the longest lengths, or provide more validation shards");
    }
    if (options_.eval_tokens != 0 && options_.eval_tokens < longest) {
      throw Error(ExitCode::usage,
                  format("EVAL_TOKENS=%lld is less than the longest window of EVAL_SEQ_LENS, %lld tokens",
                         static_cast<long long>(options_.eval_tokens), static_cast<long long>(longest)),
                  "use 0 for all tokens, or at least the longest window");
    }
    const int64_t permitted = options_.eval_tokens == 0 ? available : std::min(available, options_.eval_tokens);
    return permitted / longest * longest;
  }

  void report(const std::string& what, int64_t done, int64_t total) const {
    if (options_.progress) options_.progress(what, done, total);
  }

  LengthScore measure_length(int seq_len) {
    const std::string what = format("length %d", seq_len);
    const ValidationSet validation(options_.val_files, seq_len, region_, config_.vocab_size);
    ScoreOptions options;
    options.seq_len = options.stride = seq_len;
    options.batch_tokens = options_.batch_tokens;
    options.progress = [&](int64_t done, int64_t total) { report(what, done, total); };
    const StreamScore score = score_stream(model_, validation.tokens(), options);
    return {summarize(score, validation.tokens(), byte_counts_, seq_len), by_position(score, seq_len)};
  }

  void add_length(int seq_len, const LengthScore& score) {
    const EvalResult& total = score.summary.total;
    add(LengthRecord{.seq_len = seq_len,
                     .tokens = total.tokens,
                     .bytes = total.bytes,
                     .val_loss = total.val_loss,
                     .val_bpb = total.val_bpb,
                     .stderr_loss = score.summary.stderr_loss,
                     .last_bucket_loss = score.buckets.back().loss,
                     .rope_table_bytes = measured_rope_table_bytes(model_, seq_len),
                     .rope_table_bytes_computed = rope_table_bytes(config_, seq_len),
                     .kv_cache_bytes = kv_cache_bytes(config_, seq_len)});
    for (const auto& bucket : score.buckets) {
      add(PositionRecord{.seq_len = seq_len, .from = bucket.from, .to = bucket.to, .loss = bucket.loss, .tokens = bucket.tokens});
    }
  }

  void add_retrieval(const char* task, int seq_len, int64_t distance, const RetrievalItems& items) {
    report(format("%s %lld in %d", task, static_cast<long long>(distance), seq_len), 0, 1);
    const int64_t batch = std::max<int64_t>(1, options_.batch_tokens / items.inputs.size(1));
    const RetrievalScore score = run_retrieval(model_, items, batch, options_.device);
    add(RetrievalRecord{.task = task,
                        .seq_len = seq_len,
                        .distance = distance,
                        .items = score.items,
                        .accuracy = score.accuracy,
                        .stderr_accuracy = score.standard_error,
                        .loss = score.loss});
  }

  void add_attention(const AttentionMeasures& measures) {
    for_heads(measures, [&](int64_t layer, int64_t head, const HeadAttention& means) {
      add(AttentionRecord{.layer = layer,
                          .head = head,
                          .distance = means.distance,
                          .entropy = means.entropy,
                          .first_token = means.first_token,
                          .previous_token = means.previous_token});
    });
    for_heads(measures, [&](int64_t layer, int64_t head, const HeadAttention& means) {
      add(LogitShareRecord{.layer = layer, .head = head, .rotated = means.rotated_share});
    });
    for_heads(measures, [&](int64_t layer, int64_t head, const HeadAttention&) { add_pairs(measures, layer, head); });
    for (size_t i = 0; i < measures.shifts.size(); ++i) {
      add(RelativeShiftRecord{
          .shift = kShifts[i], .max_change = measures.shifts[i].max_change, .max_logit = measures.shifts[i].max_logit});
    }
  }

  void add_pairs(const AttentionMeasures& measures, int64_t layer, int64_t head) {
    const RopeSpec spec = config_.rope_of(static_cast<int>(layer));
    if (spec.none()) return;
    const auto frequencies = ops::rope_inv_freq(spec);
    size_t next = 0;
    for (int pair = 0; pair < spec.span() / 2; ++pair) {
      if (!spec.rotates(pair)) continue;
      add(PairShareRecord{.layer = layer,
                          .head = head,
                          .pair = pair,
                          .wavelength = 2 * std::numbers::pi / frequencies[pair].item<double>(),
                          .share = measures.pair_shares[static_cast<size_t>(layer)][static_cast<size_t>(head)][next++]});
    }
  }

  template <class Record>
  void add(const Record& record) {
    rows_.push_back(to_json(record));
  }

  template <class Body>
  static void for_heads(const AttentionMeasures& measures, const Body& body) {
    for (size_t layer = 0; layer < measures.heads.size(); ++layer) {
      for (size_t head = 0; head < measures.heads[layer].size(); ++head)
        body(static_cast<int64_t>(layer), static_cast<int64_t>(head), measures.heads[layer][head]);
    }
  }

  Gpt& model_;
  const ModelConfig& config_;
  int train_seq_len_;
  const MeasureOptions& options_;
  const Tokenizer& tokenizer_;
  ByteCounts byte_counts_;
  int64_t region_;
  double first_loss_ = 0;
  std::vector<MeasureRow> rows_;
};

MeasureRow model_row(Gpt& model, const ModelFile& file, const std::string& checkpoint) {
  const ModelConfig& config = model->config();
  const auto metadata = model_metadata(config, file.stored.train_seq_len);
  int64_t parameters = 0;
  for (const auto& parameter : model->parameters()) parameters += parameter.numel();
  return to_json(MeasuredModelRecord{.checkpoint = checkpoint,
                                     .format = format_text(file.format),
                                     .train_seq_len = file.stored.train_seq_len,
                                     .head_dim = config.head_dim(),
                                     .num_layers = config.num_layers,
                                     .num_heads = config.num_heads,
                                     .num_kv_heads = config.num_kv_heads,
                                     .rope_dims = metadata.at("ROPE_DIMS"),
                                     .rope_layers = metadata.at("ROPE_LAYERS"),
                                     .parameters = parameters,
                                     .assumed = file.assumed});
}

}  // namespace

std::vector<MeasureRow> measure_model(Gpt& model, const ModelFile& file, const std::string& checkpoint,
                                      const Tokenizer& tokenizer, const MeasureOptions& options) {
  Measurement measurement(model, file, tokenizer, options);
  measurement.lengths();
  measurement.retrieval();
  measurement.attention();
  measurement.check_training_length_again();
  std::vector<MeasureRow> rows{model_row(model, file, checkpoint)};
  for (auto& row : measurement.take_rows()) rows.push_back(std::move(row));
  return rows;
}

}  // namespace pgolf
