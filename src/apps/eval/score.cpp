// eval_gpt score: validation loss and bits per byte of stored models, at any window length and stride.
#include "pgolf/eval/score.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "commands.h"
#include "common.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/base/progress.h"
#include "pgolf/base/stopwatch.h"
#include "pgolf/base/text.h"
#include "pgolf/config/parse.h"
#include "pgolf/config/test_time_training.h"
#include "pgolf/data/byte_check.h"
#include "pgolf/data/shard_manifest.h"
#include "pgolf/data/validation_set.h"
#include "pgolf/train/test_time_training.h"
#include "results.h"

namespace pgolf {
namespace {

struct ScoreCommand {
  std::string val_files, output;
  std::vector<std::string> seq_lens, devices;
  int stride = 0, by_document = 0;
  int64_t eval_tokens = 0, batch_tokens = 65'536;
  TestTimeTraining ttt;
  bool by_position = false;
  Format form = Format::text;
  ByteCounting byte_counting = ByteCounting::rule;
};

/// One model at one length.
struct Row {
  std::string checkpoint, format, rope_dims, split, stream_sha256;
  int64_t seq_len = 0, stride = 0;
  ScoreSummary summary;
  double seconds = 0;
  std::vector<std::string> assumed, overrides;
  std::vector<PositionBucket> positions;

  double tokens_per_second() const { return static_cast<double>(summary.total.tokens) / seconds; }
};

std::vector<int> lengths_of(const std::vector<std::string>& texts) {
  std::vector<int> lengths;
  for (const auto& text : texts) {
    const auto number = parse_integer(text);
    if (!number || *number < 0 || *number > kMaxSeqLen)
      throw Error(ExitCode::usage,
                  format("EVAL_SEQ_LEN=%s is not a valid window length (0 to %d)", printable(text).c_str(), kMaxSeqLen));
    lengths.push_back(static_cast<int>(*number));
  }
  if (lengths.empty()) throw Error(ExitCode::usage, "EVAL_SEQ_LEN is empty");
  return lengths;
}

/// The runtime's device, or those that DEVICES lists, with the runtime of the first.
std::vector<at::Device> devices_of(const std::vector<std::string>& texts, RuntimeConfig config, Runtime* runtime) {
  if (texts.empty()) {
    *runtime = start_runtime(config);
    return {runtime->device};
  }
  if (config.device == DeviceChoice::cpu) throw Error(ExitCode::usage, "DEVICES are GPUs, but DEVICE=cpu");
  const int64_t have = gpu_count();
  if (have == 0) {
    throw Error(ExitCode::unavailable, "DEVICES=" + printable(join(texts, ",")) + ", but no GPU is available",
                "check the driver with nvidia-smi, or leave DEVICES out");
  }
  config.device = DeviceChoice::cuda;
  std::vector<at::Device> devices;
  if (texts == std::vector<std::string>{"all"}) {
    for (int64_t i = 0; i < have; ++i) devices.emplace_back(at::kCUDA, static_cast<at::DeviceIndex>(i));
    *runtime = start_runtime(config);
    return devices;
  }
  for (const auto& text : texts) {
    const auto number = parse_integer(text);
    if (!number || *number < 0 || *number >= have) {
      throw Error(ExitCode::usage,
                  format("DEVICES=%s: %s is not the number of a GPU (0 to %lld)", printable(join(texts, ",")).c_str(),
                         printable(text).c_str(), static_cast<long long>(have - 1)));
    }
    devices.emplace_back(at::kCUDA, static_cast<at::DeviceIndex>(*number));
  }
  *runtime = start_runtime(config, {}, devices.front().index());
  return devices;
}

/// The tokens to score: all with a stride; without one whole windows only, as upstream does it.
ValidationSet stream_of(const ScoreCommand& command, int seq_len, int vocab_size) {
  if (command.stride > 0) return ValidationSet::whole(command.val_files, command.eval_tokens, vocab_size);
  return {command.val_files, seq_len, command.eval_tokens, vocab_size};
}

std::string finite(double value, const char* form) {
  return std::isfinite(value) ? format(form, value) : std::string();
}

/// The lines that upstream prints for its artifact, then what was scored.
void print_text(const Row& row) {
  const auto& total = row.summary.total;
  const std::string name = printable(row.checkpoint, std::string::npos);
  std::printf("%s val_loss:%.4f val_bpb:%.4f stderr_bpb:%s eval_time:%.0fms tokens_per_s:%.0f\n", name.c_str(), total.val_loss,
              total.val_bpb, finite(row.summary.stderr_bpb, "%.4f").c_str(), 1000 * row.seconds, row.tokens_per_second());
  std::printf("%s_exact val_loss:%.8f val_bpb:%.8f\n", name.c_str(), total.val_loss, total.val_bpb);
  std::printf(
      "%s_scored tokens:%lld bytes:%lld seq_len:%lld stride:%lld rope_dims:%s format:%s split:%s stream_sha256:%s%s%s%s%s\n",
      name.c_str(), static_cast<long long>(total.tokens), static_cast<long long>(total.bytes),
      static_cast<long long>(row.seq_len), static_cast<long long>(row.stride), row.rope_dims.c_str(), row.format.c_str(),
      row.split.empty() ? "unknown" : row.split.c_str(), row.stream_sha256.c_str(),
      row.assumed.empty() ? "" : " assumed:", join(row.assumed, " ").c_str(),
      row.overrides.empty() ? "" : " overrides:", join(row.overrides, " ").c_str());
  for (const auto& bucket : row.positions) {
    std::printf("%s_position from:%lld to:%lld loss:%.6f tokens:%lld\n", name.c_str(), static_cast<long long>(bucket.from),
                static_cast<long long>(bucket.to), bucket.loss, static_cast<long long>(bucket.tokens));
  }
  std::fflush(stdout);
}

nlohmann::ordered_json to_json(const Row& row) {
  const auto& total = row.summary.total;
  const auto dims = parse_integer(row.rope_dims);
  nlohmann::ordered_json line{{"checkpoint", row.checkpoint},
                              {"format", row.format},
                              {"seq_len", row.seq_len},
                              {"stride", row.stride},
                              {"tokens", total.tokens},
                              {"bytes", total.bytes},
                              {"stream_sha256", row.stream_sha256},
                              {"split", row.split},
                              {"val_loss", total.val_loss},
                              {"val_bpb", total.val_bpb},
                              {"stderr_loss", row.summary.stderr_loss},
                              {"stderr_bpb", row.summary.stderr_bpb},
                              {"seconds", row.seconds},
                              {"rope_dims", dims ? nlohmann::ordered_json(*dims) : nlohmann::ordered_json(row.rope_dims)},
                              {"assumed", row.assumed},
                              {"overrides", row.overrides}};
  for (const auto& bucket : row.positions)
    line["positions"].push_back({{"from", bucket.from}, {"to", bucket.to}, {"loss", bucket.loss}, {"tokens", bucket.tokens}});
  return line;
}

Table to_table(const std::vector<Row>& rows) {
  std::set<int64_t> ends;
  for (const auto& row : rows) {
    for (const auto& bucket : row.positions) ends.insert(bucket.to);
  }
  std::vector<Table::Column> columns{"checkpoint"};
  for (const char* number :
       {"seq_len", "stride", "val_loss", "val_bpb", "stderr_bpb", "tokens", "bytes", "rope_dims", "tokens_per_s"})
    columns.emplace_back(number, true);
  for (const int64_t end : ends) columns.emplace_back(format("loss to %lld", static_cast<long long>(end)), true);
  Table table(std::move(columns));
  for (const auto& row : rows) {
    const auto& total = row.summary.total;
    std::vector<std::string> cells{row.checkpoint,
                                   std::to_string(row.seq_len),
                                   std::to_string(row.stride),
                                   format("%.6f", total.val_loss),
                                   format("%.6f", total.val_bpb),
                                   finite(row.summary.stderr_bpb, "%.6f"),
                                   std::to_string(total.tokens),
                                   std::to_string(total.bytes),
                                   row.overrides.empty() ? row.rope_dims : row.rope_dims + " (" + join(row.overrides, " ") + ")",
                                   format("%.0f", row.tokens_per_second())};
    for (const int64_t end : ends) {
      const auto found = std::find_if(row.positions.begin(), row.positions.end(),
                                      [&](const PositionBucket& bucket) { return bucket.to == end; });
      cells.push_back(found == row.positions.end() ? "" : format("%.4f", found->loss));
    }
    table.add(std::move(cells));
  }
  return table;
}

/// The worst and the best `count` documents with the beginning of their text.
void print_documents(const std::vector<DocumentLoss>& documents, std::span<const uint16_t> tokens, const Tokenizer& tokenizer,
                     int count) {
  auto sorted = documents;
  std::stable_sort(sorted.begin(), sorted.end(), [](const DocumentLoss& a, const DocumentLoss& b) { return a.bpb > b.bpb; });
  const auto print = [&](const DocumentLoss& document) {
    constexpr int64_t shown = 40;  // tokens
    const auto start =
        tokens.subspan(static_cast<size_t>(document.begin + 1), static_cast<size_t>(std::min(shown, document.tokens)));
    std::printf("  bpb:%.4f loss:%.4f tokens:%lld at:%lld  %s\n", document.bpb, document.loss,
                static_cast<long long>(document.tokens), static_cast<long long>(document.begin),
                printable(tokenizer.decode(std::vector<int>(start.begin(), start.end()))).c_str());
  };
  const size_t some = std::min(sorted.size(), static_cast<size_t>(count));
  std::printf("worst of %zu documents:\n", sorted.size());
  for (size_t i = 0; i < some; ++i) print(sorted[i]);
  std::printf("best:\n");
  for (size_t i = 0; i < some; ++i) print(sorted[sorted.size() - 1 - i]);
}

class Scorer {
 public:
  Scorer(const ScoreCommand& command, const Common& common, const std::vector<ResolvedOption>& given)
      : command_(command),
        common_(common),
        given_(given),
        lengths_(lengths_of(command.seq_lens)),
        devices_(devices_of(command.devices, common.runtime, &runtime_)),
        tokenizer_(common.tokenizer()) {
    require_tokenizer_of_shards(find_shards(command.val_files), tokenizer_);
  }

  void score(const std::string& path) {
    const ModelFile file = read_model(path, common_, given_);
    require_tokenizer(tokenizer_, file);
    std::vector<Gpt> models;
    for (const auto& device : devices_) models.push_back(build_model(file, runtime_.dtype, common_.runtime.ops, device));
    for (const int requested : lengths_) {
      if (command_.ttt.enabled) load_state_dict(models[0], file.state, path);  // the last length has changed the weights
      const int seq_len = requested > 0 ? requested : file.stored.train_seq_len;
      if (command_.stride > seq_len) {
        throw Error(ExitCode::usage, format("EVAL_STRIDE=%d is larger than the window of %d tokens and would skip tokens",
                                            command_.stride, seq_len));
      }
      rows_.push_back(score_length(path, file, models, seq_len));
      if (command_.form == Format::text) print_text(rows_.back());
      if (command_.by_document > 0) print_documents(documents_, stream_tokens_, tokenizer_, command_.by_document);
    }
  }

  const std::vector<Row>& rows() const { return rows_; }

 private:
  Row score_length(const std::string& path, const ModelFile& file, std::vector<Gpt>& models, int seq_len) {
    const ModelConfig& config = file.stored.model;
    const ValidationSet validation = stream_of(command_, seq_len, config.vocab_size);
    const ByteCounts byte_counts(tokenizer_, config.vocab_size, command_.byte_counting);
    byte_counts.require_text(validation.tokens());
    if (rows_.empty()) warn_of_byte_counts(tokenizer_, command_.byte_counting, validation.tokens());
    ScoreOptions options;
    options.seq_len = seq_len;
    options.stride = command_.stride > 0 ? command_.stride : seq_len;
    options.batch_tokens = command_.batch_tokens;
    if (options.stride < seq_len) announce(models, validation.tokens(), options);
    Progress bar("scoring", static_cast<int64_t>(plan_windows(validation.targets(), seq_len, options.stride).size()));
    options.progress = [&bar](int64_t done, int64_t) { bar.update(done); };
    const Stopwatch watch;
    const StreamScore score = command_.ttt.enabled ? score_and_train(models[0], validation.tokens(), options)
                                                   : score_stream(models, validation.tokens(), options);
    Row row;
    row.seconds = watch.seconds();
    bar.finish();
    row.checkpoint = path;
    row.format = format_text(file.format);
    const std::string layers = config.rope_dims.layers_text(config.head_dim());
    row.rope_dims = layers == "same" ? std::to_string(config.widest_rope().rope_dims) : layers;
    row.seq_len = seq_len;
    row.stride = options.stride;
    row.summary = summarize(score, validation.tokens(), byte_counts, seq_len);
    row.split = known_split(row.summary.total.tokens, row.summary.total.bytes);
    row.stream_sha256 = sha256_hex(std::as_bytes(validation.tokens()));
    row.assumed = file.assumed;
    row.overrides = file.overrides;
    add_override(command_.byte_counting, row.overrides);
    if (command_.by_position) row.positions = by_position(score, seq_len);
    if (command_.by_document > 0) {
      documents_ = by_document(score, validation.tokens(), byte_counts, tokenizer_.bos_id());
      stream_tokens_.assign(validation.tokens().begin(), validation.tokens().end());
    }
    return row;
  }

  StreamScore score_and_train(Gpt& model, std::span<const uint16_t> tokens, const ScoreOptions& options) const {
    const size_t targets = tokens.size() - 1;
    const TestTimeWindows windows{.seq_len = options.seq_len, .stride = options.stride};
    const auto count = static_cast<int64_t>(plan_windows(static_cast<int64_t>(targets), windows.seq_len, windows.stride).size());
    Group group;
    StreamScore score(targets);
    int64_t done = 0;
    train_at_test_time(model, tokens, windows, command_.ttt, group,
                       [&](const ScoredWindow& window, std::span<const float> losses) {
                         score.set(window, losses);
                         options.progress(++done, count);
                       });
    return score;
  }

  /// Prints how much more work a stride is and an estimate of its time from one timed batch. Not part of the results.
  void announce(std::vector<Gpt>& models, std::span<const uint16_t> tokens, const ScoreOptions& options) const {
    const auto targets = static_cast<int64_t>(tokens.size()) - 1;
    const auto windows = static_cast<int64_t>(plan_windows(targets, options.seq_len, options.stride).size());
    const int64_t batch = std::max<int64_t>(1, options.batch_tokens / options.seq_len);
    std::string duration;
    if (windows > 4 * batch) {
      const auto sample = tokens.first(static_cast<size_t>(options.seq_len + (batch - 1) * options.stride + 1));
      const Stopwatch watch;
      score_stream(models[0], sample, options);
      duration = ", about " + human_duration(watch.seconds() * static_cast<double>(windows) / static_cast<double>(batch) /
                                             static_cast<double>(models.size()));
    }
    std::fprintf(stderr, "stride %lld: %s windows, %.1f times the work of non-overlapping windows%s\n",
                 static_cast<long long>(options.stride), with_commas(windows).c_str(),
                 static_cast<double>(windows * options.seq_len) / static_cast<double>(targets), duration.c_str());
  }

  const ScoreCommand& command_;
  const Common& common_;
  const std::vector<ResolvedOption>& given_;
  std::vector<int> lengths_;
  Runtime runtime_;
  std::vector<at::Device> devices_;
  Tokenizer tokenizer_;
  std::vector<Row> rows_;
  std::vector<DocumentLoss> documents_;
  std::vector<uint16_t> stream_tokens_;
};

std::string rows_text(const std::vector<Row>& rows, Format form) {
  if (form != Format::jsonl) return table_text(to_table(rows), form);
  JsonRows lines;
  for (const auto& row : rows) lines.push_back(to_json(row));
  return json_lines(lines);
}

}  // namespace

ExitCode run_score(int argc, const char* const* argv) {
  Common common;
  ScoreCommand command;
  command.seq_lens = {"0"};
  OptionTable table(
      "eval_gpt [score] MODEL... --data-path DIR [--OPTION VALUE]...",
      "Prints val_loss and val_bpb of run folders, final_model.pt, *.int8.ptz (also those of upstream's train_gpt.py)\n"
      "and training checkpoints. This is the default command; eval_gpt --help lists all commands.");
  add_common(table, common);
  table.group("Score");
  ValidationFiles files;
  add_validation_files(table, files);
  table.add("EVAL_SEQ_LEN", bind::list(&command.seq_lens), "tokens", "Window lengths, such as 512,1024; 0 = training length.");
  table.add(
      "EVAL_STRIDE", bind::integer(&command.stride, 0, kMaxSeqLen), "tokens",
      "Distance between window starts; each token is scored once, with more context. 0 = non-overlapping windows without an "
      "incomplete last one, as in upstream.");
  add_test_time_training(table, command.ttt);
  table.add("EVAL_TOKENS", bind::integer(&command.eval_tokens, 0), "tokens", "Targets to score; 0 = all.");
  table.add("VAL_BATCH_SIZE", bind::integer(&command.batch_tokens, 1), "tokens", "Tokens per forward pass.");
  table.add("DEVICES", bind::list(&command.devices), "",
            "GPUs that share the work, such as 0,1; all: every GPU; default: DEVICE.");
  table.add("BY_POSITION", bind::boolean(&command.by_position), "",
            "Also print the loss by position in the window, in powers of two.");
  table.add("BY_DOCUMENT", bind::integer(&command.by_document, 0, 1 << 20), "documents",
            "Number of worst and best documents to show; 0 = none.");
  table.add("FORMAT", format_choice(&command.form, {Format::text, Format::table, Format::md, Format::csv, Format::jsonl}), "",
            "text: lines after each model, plus a table if there are several results. Other formats: everything at the end.");
  Binding output = bind::text(&command.output);
  output.default_text = "none";
  table.add("OUTPUT", output, "", "Write the table or JSON lines to this file instead of standard output.");
  const auto options_given = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.empty())
    throw Error(ExitCode::usage, "no model given", "eval_gpt MODEL... --data-path DIR; see eval_gpt --help");
  check_test_time_training(command.ttt, command.stride, options_given);
  if (command.ttt.enabled && !command.devices.empty())
    throw Error(ExitCode::usage, "TTT_ENABLED trains one model on one device", "leave DEVICES out");
  command.val_files = files.pattern(common.positional[0]);
  command.byte_counting = files.byte_counting;
  if (!command.output.empty() && command.form == Format::text)
    throw Error(ExitCode::usage, "OUTPUT cannot be used with FORMAT=text", "use --format table, md, csv or jsonl");
  check_writable("OUTPUT", command.output);
  if (command.by_document > 0 && command.form != Format::text) throw Error(ExitCode::usage, "BY_DOCUMENT needs FORMAT=text");

  Scorer scorer(command, common, options_given);
  const ExitCode code = for_each_file(common.positional, [&](const std::string& path) { scorer.score(path); });
  const auto& rows = scorer.rows();
  if (rows.empty() || (command.form == Format::text && rows.size() < 2)) return code;
  write_result(command.output, rows_text(rows, command.form));
  return code;
}

}  // namespace pgolf
