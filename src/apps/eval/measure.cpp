// eval_gpt measure: all measurements of one stored model, as JSON lines.
#include "pgolf/eval/measure.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

#include "commands.h"
#include "common.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/config/evaluation_lengths.h"
#include "pgolf/data/byte_check.h"
#include "pgolf/data/shard_manifest.h"
#include "pgolf/data/validation_set.h"
#include "pgolf/run/record_file.h"
#include "results.h"

namespace pgolf {
namespace {

/// One progress bar at a time, a new one per measurement.
class Bars {
 public:
  void update(const std::string& what, int64_t done, int64_t total) {
    if (what != what_) {
      finish();
      what_ = what;
      bar_.emplace(what, total);
    }
    bar_->update(done);
  }
  void finish() {
    if (bar_) bar_->finish();
    bar_.reset();
  }

 private:
  std::string what_;
  std::optional<Progress> bar_;
};

/// Mean of a field over a kind's records.
template <class Record>
double mean_of(const std::vector<Record>& records, std::optional<double> Record::*field) {
  double sum = 0;
  for (const auto& record : records) sum += (record.*field).value_or(0);
  return sum / static_cast<double>(records.size());
}

template <class Record>
std::vector<Record> all_of(const JsonRows& rows) {
  std::vector<Record> records;
  for (const auto& row : rows) {
    if (auto record = as<Record>(row)) records.push_back(std::move(*record));
  }
  return records;
}

void log_summary(const JsonRows& rows) {
  for (const auto& row : all_of<LengthRecord>(rows)) {
    log::info(format("seq_len:%lld val_loss:%.6f val_bpb:%.6f last_bucket_loss:%.6f tokens:%lld rope_table:%s kv_cache:%s",
                     static_cast<long long>(row.seq_len), row.val_loss.value_or(0), row.val_bpb.value_or(0),
                     row.last_bucket_loss.value_or(0), static_cast<long long>(row.tokens.value_or(0)),
                     human_bytes(static_cast<double>(row.rope_table_bytes.value_or(0))).c_str(),
                     human_bytes(static_cast<double>(row.kv_cache_bytes.value_or(0))).c_str()));
  }
  std::vector<std::pair<std::string, std::string>> accuracies;  // by task, in the rows' order
  for (const auto& row : all_of<RetrievalRecord>(rows)) {
    std::string task = row.task;
    if (task == "passkey") task += format(" in %lld tokens", static_cast<long long>(row.seq_len));
    auto found = std::find_if(accuracies.begin(), accuracies.end(), [&](const auto& entry) { return entry.first == task; });
    if (found == accuracies.end()) found = accuracies.insert(accuracies.end(), {task, ""});
    found->second += format(" %lld:%.3f", static_cast<long long>(row.distance), row.accuracy.value_or(0));
  }
  for (const auto& [task, by_distance] : accuracies) log::info(task + ", accuracy by distance:" + by_distance);
  const auto heads = all_of<AttentionRecord>(rows);
  if (heads.empty()) return;
  log::info(format("attention, mean of heads: distance %.1f tokens, entropy %.3f nats, first token %.3f, previous token %.3f",
                   mean_of(heads, &AttentionRecord::distance), mean_of(heads, &AttentionRecord::entropy),
                   mean_of(heads, &AttentionRecord::first_token), mean_of(heads, &AttentionRecord::previous_token)));
  log::info(format("rotated dims' share of the logits, mean of heads: %.3f",
                   mean_of(all_of<LogitShareRecord>(rows), &LogitShareRecord::rotated)));
}

}  // namespace

ExitCode run_measure(int argc, const char* const* argv) {
  Common common;
  MeasureOptions options;
  std::vector<std::string> seq_lens{"0.5x", "1x", "2x", "4x"};
  std::string output;
  OptionTable table("eval_gpt measure MODEL --data-path DIR [--OPTION VALUE]...",
                    "Measures one stored model: loss by window length and position, memory, retrieval, attention, and the\n"
                    "rotated dims' share of the logits. Prints JSON lines (docs/measurements.md), the same for the same input.");
  add_common(table, common);
  table.group("Measure");
  ValidationFiles files;
  add_validation_files(table, files);
  table.add("EVAL_SEQ_LENS", bind::list(&seq_lens), "",
            "Window lengths in tokens, or as multiples of the training length (2x). The training length is always included.");
  table.add("EVAL_TOKENS", bind::integer(&options.eval_tokens, 0), "tokens",
            "Targets to score at each length, rounded down to whole windows of the longest; 0 = all.");
  table.add("VAL_BATCH_SIZE", bind::integer(&options.batch_tokens, 1), "tokens", "Tokens per forward pass.");
  table.add("RETRIEVAL_ITEMS", bind::integer(&options.retrieval_items, 0, 1 << 20), "",
            "Sequences per retrieval task, length and distance; 0 = no retrieval.");
  table.add("PROBE_WINDOWS", bind::integer(&options.probe_windows, 0, 1 << 20), "windows",
            "Windows of the training length for attention, logit share and relative shift; 0 = skip these.");
  table.add("SEED", bind::integer(&options.seed, 0), "", "Seed of the retrieval tasks.");
  table.add("OUTPUT", bind::text(&output), "", "Write the JSON lines to this file and print a summary instead.");
  const auto options_given = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.size() != 1)
    throw Error(ExitCode::usage, "measure takes exactly one model", "see eval_gpt measure --help");
  options.val_files = files.pattern(common.positional[0]);
  check_writable("OUTPUT", output);
  const std::string& checkpoint = common.positional[0];
  const Runtime runtime = start_runtime(common.runtime);
  const Tokenizer tokenizer(common.tokenizer());
  const ModelFile file = read_model(checkpoint, common, options_given);
  require_tokenizer(tokenizer, file);
  require_tokenizer_of_shards(find_shards(options.val_files), tokenizer);
  const auto validation = ValidationSet::whole(options.val_files, 0, file.stored.model.vocab_size);
  ByteCounts(tokenizer, file.stored.model.vocab_size, files.byte_counting).require_text(validation.tokens());
  warn_of_byte_counts(tokenizer, files.byte_counting, validation.tokens());
  options.seq_lens = evaluation_lengths(seq_lens, file.stored.train_seq_len);
  options.device = runtime.device;
  options.byte_counting = files.byte_counting;
  Bars bars;
  options.progress = [&bars](const std::string& what, int64_t done, int64_t total) { bars.update(what, done, total); };
  Gpt model = build_model(file, runtime.dtype, common.runtime.ops, runtime.device);
  const JsonRows rows = measure_model(model, file, checkpoint, tokenizer, options);
  bars.finish();
  write_result(output, json_lines(rows));
  if (!output.empty()) log_summary(rows);
  return ExitCode::ok;
}

}  // namespace pgolf
