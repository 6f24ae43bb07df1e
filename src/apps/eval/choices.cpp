// eval_gpt choices: multiple-choice and cloze tasks.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>

#include "commands.h"
#include "common.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/progress.h"
#include "pgolf/base/text.h"
#include "pgolf/eval/choice_tasks.h"
#include "results.h"

namespace pgolf {
namespace {

struct Row {
  std::string checkpoint;
  const ChoiceTask* task;
  TaskResult result;
  std::vector<std::string> assumed, overrides;
};

std::vector<ChoiceTask> read_tasks(const std::vector<std::string>& patterns, const PromptStyle& style, int64_t limit) {
  std::vector<ChoiceTask> tasks;
  std::set<std::filesystem::path> seen;
  for (const auto& pattern : patterns) {
    const auto paths = glob_sorted(pattern);
    if (paths.empty())
      throw Error(ExitCode::bad_input, format("no file matches TASKS=%s", printable(pattern).c_str()),
                  "give JSONL files of a task, or a quoted pattern for them");
    for (const auto& path : paths) {
      if (seen.insert(path).second) tasks.push_back(read_choice_task(path, style, limit));
    }
  }
  if (tasks.empty()) throw Error(ExitCode::usage, "TASKS is empty", "--tasks 'FILE_OR_PATTERN[,...]'");
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

Table to_table(const std::vector<Row>& rows) {
  Table table({"task",
               "checkpoint",
               {"items", true},
               {"acc %", true},
               {"acc_norm %", true},
               {"acc_bytes %", true},
               {"perplexity", true}});
  for (const auto& row : rows) {
    const TaskResult& result = row.result;
    table.add({row.task->name, row.checkpoint, with_commas(result.items), percent(result.acc), percent(result.acc_norm),
               percent(result.acc_bytes), perplexity(result.perplexity)});
  }
  return table;
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
  line["overrides"] = row.overrides;
  return line;
}

std::string render(const std::vector<Row>& rows, Format form) {
  if (form == Format::table || form == Format::md) return table_text(to_table(rows), form);
  JsonRows lines;
  for (const auto& row : rows) lines.push_back(as_json(row));
  return form == Format::csv ? table_of(lines).csv() : json_lines(lines);
}

/// One row per option.
JsonRows sample_rows(const std::string& checkpoint, const ChoiceTask& task, const std::vector<TextPair>& pairs,
                     const std::vector<Likelihood>& scores) {
  JsonRows rows;
  size_t k = 0;
  for (const auto& item : task.items) {
    for (size_t i = 0; i < item.options.size(); ++i, ++k) {
      rows.push_back({{"checkpoint", checkpoint},
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
                      {"truncated", scores[k].truncated}});
    }
  }
  return rows;
}

}  // namespace

ExitCode run_choices(int argc, const char* const* argv) {
  Common common;
  std::vector<std::string> patterns;
  PromptStyle style;
  int64_t limit = 0;
  Format form = Format::table;
  std::string output, samples;
  OptionTable table("eval_gpt choices MODEL... --tasks GLOB[,GLOB...] [--OPTION VALUE]...",
                    "Accuracy on multiple-choice and cloze tasks: JSON lines of {query, choices, gold}, {context_options,\n"
                    "continuation, gold} or {context, continuation}. Details: docs/generation.md.");
  add_common(table, common);
  table.group("Choices");
  table.add_required("TASKS", bind::list(&patterns), "", "Task files: paths whose file names may be quoted shell patterns.");
  table.add("LIMIT", bind::integer(&limit, 0), "items", "Use only the first LIMIT items of each file; 0 = all.");
  table.add(
      "DELIMITER",
      bind::choice(&style.delimiter, {{"auto", Delimiter::automatic}, {"space", Delimiter::space}, {"none", Delimiter::none}}),
      "", "Separator between context and continuation; auto: a space, except before punctuation.");
  table.add("ANSWER_CUE", bind::boolean(&style.answer_cue), "",
            "Append a line \"Answer:\" to the query of multiple-choice items, as is usual for piqa and arc.");
  table.add("FORMAT", format_choice(&form), "", "Output format.");
  table.add("OUTPUT", bind::text(&output), "", "Write the result to this file instead of standard output.");
  table.add("LOG_SAMPLES", bind::text(&samples), "",
            "Write the log-probability of every option of every item to this file, as JSON lines.");
  const auto options_given = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.empty())
    throw Error(ExitCode::usage, "no model given",
                "eval_gpt choices MODEL... --tasks GLOB; see eval_gpt choices --help");
  check_writable("OUTPUT", output);
  check_writable("LOG_SAMPLES", samples);
  const auto tasks = read_tasks(patterns, style, limit);
  const Tokenizer tokenizer(common.tokenizer());
  const int bos_id = tokenizer.required_bos_id();
  std::vector<std::vector<TextPair>> pairs;
  for (const auto& task : tasks) pairs.push_back(encode_task(task, tokenizer));
  const Runtime runtime = start_runtime(common.runtime);
  std::vector<std::vector<Row>> by_task(tasks.size());
  std::string sample_text;
  const ExitCode code = for_each_file(common.positional, [&](const std::string& path) {
    const ModelFile file = read_model(path, common, options_given);
    require_tokenizer(tokenizer, file);
    Gpt model = build_model(file, runtime.dtype, common.runtime.ops, runtime.device);
    for (size_t i = 0; i < tasks.size(); ++i) {
      Progress bar(tasks[i].name, static_cast<int64_t>(pairs[i].size()));
      const auto scores = likelihoods(model, pairs[i], file.stored.train_seq_len, bos_id, runtime.device,
                                      [&](int64_t done) { bar.update(done); });
      bar.finish();
      by_task[i].push_back({path, &tasks[i], summarize(tasks[i], scores), file.assumed, file.overrides});
      if (!samples.empty()) sample_text += json_lines(sample_rows(path, tasks[i], pairs[i], scores));
    }
  });
  std::vector<Row> rows;
  for (const auto& group : by_task) rows.insert(rows.end(), group.begin(), group.end());
  if (rows.empty()) return code;
  write_result(output, render(rows, form));
  if (!samples.empty()) write_result(samples, sample_text);
  return code;
}

}  // namespace pgolf
