// eval_gpt choices: multiple-choice and cloze sets.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "commands.h"
#include "common.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/eval/choice_tasks.h"

namespace pgolf {
namespace {

enum class Format { table, md, csv, jsonl };

struct Row {
  std::string checkpoint;
  const ChoiceTask* task;
  TaskResult result;
  std::vector<std::string> assumed;
};

/// A file that is opened before the work and filled after it; none without a path.
class LateFile {
 public:
  LateFile(const char* option, const std::string& path) {
    if (path.empty()) return;
    if (std::filesystem::is_directory(path)) throw Error(ExitCode::io, format("%s=%s is a folder", option, path.c_str()));
    file_.emplace(path);
  }
  bool wanted() const { return file_.has_value(); }
  void write(const std::string& text) {
    file_->write(as_bytes(text));
    file_->commit();
  }

 private:
  std::optional<AtomicFile> file_;
};

std::vector<ChoiceTask> read_tasks(const std::vector<std::string>& patterns, const PromptStyle& style, int64_t limit) {
  std::vector<ChoiceTask> tasks;
  std::set<std::filesystem::path> seen;
  for (const auto& pattern : patterns) {
    const auto paths = glob_sorted(pattern);
    if (paths.empty()) throw Error(ExitCode::bad_input, format("no file matches TASKS=%s", pattern.c_str()));
    for (const auto& path : paths) {
      if (seen.insert(path).second) tasks.push_back(read_choice_task(path, style, limit));
    }
  }
  if (tasks.empty()) throw Error(ExitCode::usage, "TASKS names no file", "--tasks 'FILE_OR_PATTERN[,...]'");
  return tasks;
}

std::string percent(const Share& share) {
  if (std::isnan(share.value)) return "-";
  if (std::isnan(share.standard_error)) return format("%.2f", 100 * share.value);
  return format("%.2f ± %.2f", 100 * share.value, 100 * share.standard_error);
}

std::string perplexity(const Share& share) {
  if (std::isnan(share.value)) return "-";
  return std::isnan(share.standard_error) ? format("%.4g", share.value)
                                          : format("%.4g ± %.2g", share.value, share.standard_error);
}

/// Cells of the heading and of the rows.
std::vector<std::vector<std::string>> table_cells(const std::vector<Row>& rows) {
  std::vector<std::vector<std::string>> cells{
      {"task", "checkpoint", "items", "acc %", "acc_norm %", "acc_bytes %", "perplexity"}};
  for (const auto& row : rows) {
    const TaskResult& result = row.result;
    cells.push_back({row.task->name, row.checkpoint, with_commas(result.items), percent(result.acc), percent(result.acc_norm),
                     percent(result.acc_bytes), perplexity(result.perplexity)});
  }
  return cells;
}

/// Columns on a terminal: "±" is three bytes of UTF-8 at most, and one column.
size_t columns(const std::string& text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

std::string text_table(const std::vector<std::vector<std::string>>& cells) {
  std::vector<size_t> widths(cells[0].size(), 0);
  for (const auto& row : cells) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
  }
  std::string out;
  for (const auto& row : cells) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - columns(row[i]), ' ');
      const bool left = i < 2;  // names left, numbers right
      out += (i > 0 ? "  " : "") + (left ? row[i] + padding : padding + row[i]);
    }
    out += "\n";
  }
  return out;
}

std::string markdown_table(const std::vector<std::vector<std::string>>& cells) {
  std::string out;
  for (size_t i = 0; i < cells.size(); ++i) {
    for (std::string cell : cells[i]) {
      for (size_t at = 0; (at = cell.find('|', at)) != std::string::npos; at += 2) cell.insert(at, "\\");
      out += "| " + cell + " ";
    }
    out += "|\n";
    if (i == 0) out += "|---|---|---:|---:|---:|---:|---:|\n";
  }
  return out;
}

nlohmann::ordered_json as_json(const Row& row) {
  const TaskResult& result = row.result;
  nlohmann::ordered_json line{{"checkpoint", row.checkpoint},
                              {"task", row.task->name},
                              {"form", name_of(row.task->form)},
                              {"items", result.items},
                              {"truncated", result.truncated}};
  const auto add = [&](const std::string& name, const Share& share) {
    line[name] = share.value;
    line[name + "_stderr"] = share.standard_error;
  };
  add("acc", result.acc);
  add("acc_norm", result.acc_norm);
  add("acc_bytes", result.acc_bytes);
  add("perplexity", result.perplexity);
  line["assumed"] = row.assumed;
  return line;
}

/// A checkpoint's name may hold bytes that are not UTF-8.
std::string dump(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

/// A text is quoted where it has to be; null is nothing.
std::string csv_cell(const nlohmann::ordered_json& value) {
  if (value.is_number_float()) return std::isfinite(value.get<double>()) ? value.dump() : "";
  std::string text;
  if (value.is_array()) {
    for (const auto& entry : value) text += (text.empty() ? "" : " ") + entry.get<std::string>();
  } else {
    text = value.is_string() ? value.get<std::string>() : value.dump();
  }
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  for (size_t at = 0; (at = text.find('"', at)) != std::string::npos; at += 2) text.insert(at, "\"");
  return "\"" + text + "\"";
}

std::string render(const std::vector<Row>& rows, Format form) {
  if (form == Format::table) return text_table(table_cells(rows));
  if (form == Format::md) return markdown_table(table_cells(rows));
  std::string out;
  for (const auto& row : rows) {
    const auto line = as_json(row);
    if (form == Format::jsonl) {
      out += dump(line) + "\n";
      continue;
    }
    const auto join = [&](const auto& cell) {
      std::string joined;
      for (const auto& [name, value] : line.items()) joined += (joined.empty() ? "" : ",") + cell(name, value);
      return joined + "\n";
    };
    if (out.empty()) out += join([](const std::string& name, const auto&) { return name; });
    out += join([](const std::string&, const auto& value) { return csv_cell(value); });
  }
  return out;
}

/// One line per option.
std::string sample_lines(const std::string& checkpoint, const ChoiceTask& task, const std::vector<TextPair>& pairs,
                         const std::vector<Likelihood>& scores) {
  std::string lines;
  size_t k = 0;
  for (const auto& item : task.items) {
    for (size_t i = 0; i < item.options.size(); ++i, ++k) {
      const nlohmann::ordered_json line{{"checkpoint", checkpoint},
                                        {"task", task.name},
                                        {"line", item.line},
                                        {"option", i},
                                        {"gold", i == item.gold},
                                        {"context_tokens", pairs[k].context.size()},
                                        {"tokens", pairs[k].continuation.size()},
                                        {"characters", item.options[i].characters},
                                        {"bytes", item.options[i].bytes},
                                        {"log_prob", scores[k].log_prob},
                                        {"greedy", scores[k].greedy},
                                        {"truncated", scores[k].truncated}};
      lines += dump(line) + "\n";
    }
  }
  return lines;
}

}  // namespace

ExitCode run_choices(int argc, const char* const* argv) {
  Common common;
  std::vector<std::string> patterns;
  PromptStyle style;
  int64_t limit = 0;
  Format form = Format::table;
  std::string output, samples;
  OptionTable table("eval_gpt choices CHECKPOINT... --tasks GLOB[,GLOB...] [--OPTION VALUE]...",
                    "Accuracy on multiple-choice and cloze sets, JSON lines of {query, choices, gold}, {context_options,\n"
                    "continuation, gold} or {context, continuation}. How it is computed: docs/generation.md.");
  add_common(table, common);
  table.group("Choices");
  table.add_required("TASKS", bind::list(&patterns), "", "Files of items, quoted shell patterns.");
  table.add("LIMIT", bind::integer(&limit, 0), "items", "The first so many of each file; 0 = all.");
  table.add(
      "DELIMITER",
      bind::choice(&style.delimiter, {{"auto", Delimiter::automatic}, {"space", Delimiter::space}, {"none", Delimiter::none}}),
      "", "Between context and continuation; auto: a blank, except before punctuation.");
  table.add("ANSWER_CUE", bind::boolean(&style.answer_cue), "",
            "Put a line \"Answer:\" behind the query of multiple-choice items, as is usual for piqa and arc.");
  table.add("FORMAT",
            bind::choice(&form, {{"table", Format::table}, {"md", Format::md}, {"csv", Format::csv}, {"jsonl", Format::jsonl}}),
            "", "Form of the result.");
  table.add("OUTPUT", bind::text(&output), "", "File for the result, instead of standard output.");
  table.add("LOG_SAMPLES", bind::text(&samples), "", "File for the log-probability of every option of every item, JSON lines.");
  const auto options_given = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.empty())
    throw Error(ExitCode::usage, "no checkpoint given",
                "eval_gpt choices CHECKPOINT... --tasks GLOB; see eval_gpt choices --help");
  LateFile output_file("OUTPUT", output), samples_file("LOG_SAMPLES", samples);
  const auto tasks = read_tasks(patterns, style, limit);
  const Tokenizer tokenizer(common.tokenizer_path);
  std::vector<std::vector<TextPair>> pairs;
  for (const auto& task : tasks) pairs.push_back(encode_task(task, tokenizer));
  const Runtime runtime = start_runtime(common.runtime, 0);
  std::vector<std::vector<Row>> by_task(tasks.size());
  std::string sample_text;
  ExitCode code = ExitCode::ok;
  for (const auto& path : common.positional) {
    try {
      const ModelFile file = read_model(path, common, options_given);
      tokenizer.require_vocab_size(file.stored.model.vocab_size);
      Gpt model = build_model(file, runtime.dtype, common.runtime.ops, runtime.device);
      for (size_t i = 0; i < tasks.size(); ++i) {
        Progress bar(tasks[i].name, static_cast<int64_t>(pairs[i].size()));
        const auto scores =
            likelihoods(model, pairs[i], file.stored.train_seq_len, runtime.device, [&](int64_t done) { bar.update(done); });
        bar.finish();
        by_task[i].push_back({path, &tasks[i], summarise(tasks[i], scores), file.assumed});
        if (samples_file.wanted()) sample_text += sample_lines(path, tasks[i], pairs[i], scores);
      }
    } catch (const Error& e) {
      // One bad file among many does not hide the others' numbers.
      if (common.positional.size() == 1) throw;
      log::warn(e.what());
      code = e.code();
    }
  }
  std::vector<Row> rows;
  for (const auto& group : by_task) rows.insert(rows.end(), group.begin(), group.end());
  const std::string text = render(rows, form);
  output_file.wanted() ? output_file.write(text) : static_cast<void>(std::fputs(text.c_str(), stdout));
  if (samples_file.wanted()) samples_file.write(sample_text);
  return code;
}

}  // namespace pgolf
