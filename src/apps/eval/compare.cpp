// eval_gpt compare: two stored models on the same tokens, and tensor by tensor.
#include "pgolf/eval/compare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "commands.h"
#include "common.h"
#include "pgolf/base/format.h"
#include "pgolf/base/progress.h"
#include "pgolf/base/text.h"
#include "pgolf/data/byte_check.h"
#include "pgolf/data/shard_manifest.h"
#include "pgolf/data/tokenizer.h"
#include "results.h"

namespace pgolf {
namespace {

/// Everything to print.
struct Report {
  std::string path_a, path_b;
  int seq_len = 0;
  Comparison numbers;
  std::vector<TensorDifference> tensors;
  std::string no_tensors;                                    ///< why there are none
  std::vector<std::string> assumed_a, assumed_b, overrides;  ///< overrides: of both models

  double difference() const { return numbers.b.val_loss - numbers.a.val_loss; }
  /// Nats per token -> bits per byte, for losses, differences and errors alike.
  double bpb(double nats) const { return bits_per_byte(nats, numbers.a.tokens, numbers.a.bytes); }
};

std::string shape_words(const std::vector<int64_t>& shape) {
  std::string out;
  for (const int64_t extent : shape) out += (out.empty() ? "" : "x") + std::to_string(extent);
  return out;
}

std::string bits(double value) {
  return value < 0 ? "" : format("%.3f", value);
}

/// Mean over the weights that have codes; empty if none have.
std::string mean_bits(const std::vector<TensorDifference>& tensors, double TensorDifference::*field) {
  double sum = 0, count = 0;
  for (const auto& row : tensors) {
    if (row.*field < 0) continue;
    double numel = 1;
    for (const int64_t extent : row.shape) numel *= static_cast<double>(extent);
    sum += numel * row.*field;
    count += numel;
  }
  return count == 0 ? "" : format("%.3f", sum / count);
}

Table losses_table(const Report& report) {
  const Comparison& n = report.numbers;
  Table table({"model", {"val_loss", true}, {"val_bpb", true}});
  const auto add = [&](std::string name, double loss, double bpb) {
    table.add({std::move(name), format("%.6f", loss), format("%.6f", bpb)});
  };
  add("A " + report.path_a, n.a.val_loss, n.a.val_bpb);
  add("B " + report.path_b, n.b.val_loss, n.b.val_bpb);
  add("B - A", report.difference(), report.bpb(report.difference()));
  add("standard error of B - A", n.stderr_difference, report.bpb(n.stderr_difference));
  add("KL(A||B)", n.kl, report.bpb(n.kl));
  add("standard error of KL", n.stderr_kl, report.bpb(n.stderr_kl));
  return table;
}

Table tensors_table(const Report& report) {
  Table table({"tensor",
               "shape",
               {"relative RMS", true},
               {"max abs", true},
               {"bytes A", true},
               {"bytes B", true},
               {"bits A", true},
               {"bits B", true}});
  int64_t bytes_a = 0, bytes_b = 0;
  for (const auto& row : report.tensors) {
    table.add({printable(row.name), shape_words(row.shape), format("%.3e", row.relative_rms), format("%.3e", row.max_abs),
               with_commas(row.bytes_a), with_commas(row.bytes_b), bits(row.bits_a), bits(row.bits_b)});
    bytes_a += row.bytes_a;
    bytes_b += row.bytes_b;
  }
  table.add({"all", "", "", "", with_commas(bytes_a), with_commas(bytes_b), mean_bits(report.tensors, &TensorDifference::bits_a),
             mean_bits(report.tensors, &TensorDifference::bits_b)});
  return table;
}

/// The comparison, then one row per tensor.
JsonRows json_rows(const Report& report) {
  const Comparison& n = report.numbers;
  const auto number = [](double value) { return std::isfinite(value) ? nlohmann::ordered_json(value) : nullptr; };
  JsonRows rows;
  rows.push_back({{"kind", "compare"},
                  {"a", report.path_a},
                  {"b", report.path_b},
                  {"seq_len", report.seq_len},
                  {"windows", n.windows},
                  {"tokens", n.a.tokens},
                  {"bytes", n.a.bytes},
                  {"val_loss_a", n.a.val_loss},
                  {"val_loss_b", n.b.val_loss},
                  {"val_bpb_a", n.a.val_bpb},
                  {"val_bpb_b", n.b.val_bpb},
                  {"difference", report.difference()},
                  {"stderr_difference", number(n.stderr_difference)},
                  {"difference_bpb", report.bpb(report.difference())},
                  {"stderr_difference_bpb", number(report.bpb(n.stderr_difference))},
                  {"kl", n.kl},
                  {"stderr_kl", number(n.stderr_kl)},
                  {"top1_agreement", n.top1_agreement},
                  {"assumed_a", report.assumed_a},
                  {"assumed_b", report.assumed_b},
                  {"overrides", report.overrides},
                  {"no_tensors", report.no_tensors}});
  for (const auto& row : report.tensors) {
    rows.push_back({{"kind", "tensor"},
                    {"name", row.name},
                    {"shape", row.shape},
                    {"relative_rms", number(row.relative_rms)},
                    {"max_abs", number(row.max_abs)},
                    {"bytes_a", row.bytes_a},
                    {"bytes_b", row.bytes_b}});
    if (row.bits_a >= 0) rows.back()["bits_a"] = row.bits_a;
    if (row.bits_b >= 0) rows.back()["bits_b"] = row.bits_b;
  }
  return rows;
}

std::string table_report(const Report& report, Format form) {
  const Comparison& n = report.numbers;
  std::string out = table_text(losses_table(report), form) + "\n";
  out += format("top-1 agreement %.4f%%; %s tokens, %s bytes, %s windows of %d\n", 100 * n.top1_agreement,
                with_commas(n.a.tokens).c_str(), with_commas(n.a.bytes).c_str(), with_commas(n.windows).c_str(), report.seq_len);
  if (!report.assumed_a.empty()) out += "assumed for A: " + join(report.assumed_a, " ") + "\n";
  if (!report.overrides.empty()) out += "overrides: " + join(report.overrides, " ") + "\n";
  if (!report.assumed_b.empty()) out += "assumed for B: " + join(report.assumed_b, " ") + "\n";
  if (!report.no_tensors.empty()) return out + "no tensor table: " + report.no_tensors + "\n";
  return out + "\n" + table_text(tensors_table(report), form);
}

std::string report_text(const Report& report, Format form) {
  if (form == Format::csv) return table_of(json_rows(report)).csv();
  return form == Format::jsonl ? json_lines(json_rows(report)) : table_report(report, form);
}

}  // namespace

ExitCode run_compare(int argc, const char* const* argv) {
  Common common;
  ValidationFiles files;
  std::string output;
  int seq_len = 0;
  int64_t eval_tokens = 0, batch_tokens = 65'536;
  Format form = Format::table;
  OptionTable table("eval_gpt compare A B --data-path DIR [--OPTION VALUE]...",
                    "Compares two stored models on the same tokens (losses, divergence, agreement) and tensor by tensor, for\n"
                    "example a run's model and its artifact, or two runs.");
  add_common(table, common);
  table.group("Compare");
  add_validation_files(table, files);
  table.add("EVAL_SEQ_LEN", bind::integer(&seq_len, 0, kMaxSeqLen), "tokens", "Window length; 0 = A's training length.");
  table.add("EVAL_TOKENS", bind::integer(&eval_tokens, 0), "tokens", "Targets to score; 0 = all.");
  table.add("VAL_BATCH_SIZE", bind::integer(&batch_tokens, 1), "tokens", "Tokens per forward pass.");
  table.add("FORMAT", format_choice(&form), "", "Output format.");
  table.add("OUTPUT", bind::text(&output), "", "Write the result to this file instead of standard output.");
  const auto options_given = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.size() != 2)
    throw Error(ExitCode::usage, "compare takes exactly two models", "see eval_gpt compare --help");
  const std::string val_files = files.pattern(common.positional[0]);
  check_writable("OUTPUT", output);
  const Runtime runtime = start_runtime(common.runtime);
  const ModelFile a = read_model(common.positional[0], common, options_given);
  const ModelFile b = read_model(common.positional[1], common, options_given);
  const int vocab_size = a.stored.model.vocab_size;
  if (b.stored.model.vocab_size != vocab_size) {
    throw Error(ExitCode::bad_input,
                format("%s has a vocabulary of %d tokens, %s has %d: they cannot be compared on the same tokens", a.path.c_str(),
                       vocab_size, b.path.c_str(), b.stored.model.vocab_size),
                "to compare models with different tokenizers, use val_bpb of eval_gpt score");
  }
  const Tokenizer tokenizer(common.tokenizer());
  for (const ModelFile* file : {&a, &b}) require_tokenizer(tokenizer, *file);
  require_tokenizer_of_shards(find_shards(val_files), tokenizer);

  Report report;
  report.path_a = a.path.string();
  report.path_b = b.path.string();
  report.seq_len = seq_len > 0 ? seq_len : a.stored.train_seq_len;
  report.assumed_a = a.assumed;
  report.assumed_b = b.assumed;
  report.overrides = a.overrides;
  add_override(files.byte_counting, report.overrides);
  report.tensors = compare_tensors(a, b, list_contents(open_model_container(a.path), report.path_a),
                                   list_contents(open_model_container(b.path), report.path_b), &report.no_tensors);
  const ValidationSet validation(val_files, report.seq_len, eval_tokens, vocab_size);
  const ByteCounts byte_counts(tokenizer, vocab_size, files.byte_counting);
  byte_counts.require_text(validation.tokens());
  warn_of_byte_counts(tokenizer, files.byte_counting, validation.tokens());
  Gpt model_a = build_model(a, runtime.dtype, common.runtime.ops, runtime.device);
  Gpt model_b = build_model(b, runtime.dtype, common.runtime.ops, runtime.device);
  Progress bar("comparing", validation.sequences());
  EvalOptions options;
  options.seq_len = report.seq_len;
  options.batch_sequences = std::max<int64_t>(1, batch_tokens / report.seq_len);
  options.device = runtime.device;
  options.progress = [&bar](int64_t done, int64_t) { bar.update(done); };
  report.numbers = compare_models(model_a, model_b, validation, byte_counts, options);
  bar.finish();
  write_result(output, report_text(report, form));
  return ExitCode::ok;
}

}  // namespace pgolf
