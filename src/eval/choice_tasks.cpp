#include "pgolf/eval/choice_tasks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/json_problem.h"
#include "pgolf/base/text.h"
#include "statistics.h"

namespace pgolf {
namespace {

using nlohmann::json;

constexpr size_t kMaxTaskBytes = size_t{1} << 30;  // bytes
constexpr const char* kFormsHint =
    "an item has the form {\"query\", \"choices\", \"gold\"}, {\"context_options\", \"continuation\", \"gold\"} or {\"context\", "
    "\"continuation\"}";
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// One line of a task's file.
class TaskLine {
 public:
  TaskLine(const std::filesystem::path& path, int64_t number, const std::string& text)
      : path_(path), number_(number), fields_(json::parse(text, nullptr, /*allow_exceptions=*/false)) {
    if (fields_.is_discarded()) fail("is not JSON: " + json_problem(text));
    if (!fields_.is_object()) fail("is not a JSON object");
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::bad_input, format("%s:%lld %s", path_.c_str(), static_cast<long long>(number_), what.c_str()),
                kFormsHint);
  }

  TaskForm form() const {
    const auto has = [&](std::initializer_list<const char*> names) {
      return std::all_of(names.begin(), names.end(), [&](const char* name) { return fields_.contains(name); });
    };
    if (has({"query", "choices", "gold"})) return TaskForm::choices;
    if (has({"context_options", "continuation", "gold"})) return TaskForm::contexts;
    if (has({"context", "continuation"})) return TaskForm::cloze;
    std::string names;
    for (const auto& [name, value] : fields_.items()) names += (names.empty() ? "" : ", ") + name.substr(0, 40);
    fail("has fields that match no known form: " + (names.empty() ? "none" : names.substr(0, 200)));
  }

  std::string text(const char* name) const {
    if (!fields_.at(name).is_string()) fail(format("has a %s that is not a string", name));
    return fields_.at(name).get<std::string>();
  }
  std::vector<std::string> texts(const char* name) const {
    const auto& list = fields_.at(name);
    const bool good = list.is_array() && list.size() >= 2 &&
                      std::all_of(list.begin(), list.end(), [](const json& entry) { return entry.is_string(); });
    if (!good) fail(format("has %s that are not a list of at least two strings", name));
    return list.get<std::vector<std::string>>();
  }
  size_t gold(size_t options) const {
    const auto& value = fields_.at("gold");
    if (!value.is_number_unsigned() || value.get<uint64_t>() >= options)
      fail(format("has a gold that is not an integer from 0 to %zu", options - 1));
    return value.get<size_t>();
  }

 private:
  const std::filesystem::path& path_;
  int64_t number_;
  json fields_;
};

bool stands_alone(const std::string& continuation) {
  constexpr std::string_view attached = " \t\n\r,.;:!?)]}'";
  return continuation.empty() || attached.find(continuation[0]) == std::string_view::npos;
}

ChoiceOption make_option(const std::string& context, const std::string& continuation, Delimiter delimiter) {
  const bool space = delimiter == Delimiter::space || (delimiter == Delimiter::automatic && stands_alone(continuation));
  const auto code_points = std::count_if(continuation.begin(), continuation.end(),
                                         [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
  return {context, (space ? " " : "") + continuation, code_points, static_cast<int64_t>(continuation.size())};
}

ChoiceItem read_item(const TaskLine& line, TaskForm form, const PromptStyle& style, int64_t number) {
  ChoiceItem item;
  item.line = number;
  switch (form) {
    case TaskForm::choices: {
      std::string context = line.text("query");
      if (style.answer_cue) context = context.substr(0, context.find_last_not_of(" \t\r\n") + 1) + "\nAnswer:";
      for (const auto& choice : line.texts("choices")) item.options.push_back(make_option(context, choice, style.delimiter));
      break;
    }
    case TaskForm::contexts: {
      const std::string continuation = line.text("continuation");
      for (const auto& context : line.texts("context_options"))
        item.options.push_back(make_option(context, continuation, style.delimiter));
      break;
    }
    case TaskForm::cloze:
      item.options.push_back(make_option(line.text("context"), line.text("continuation"), style.delimiter));
      return item;
  }
  item.gold = line.gold(item.options.size());
  return item;
}

Share mean_of_items(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return {sum / static_cast<double>(values.size()), standard_error_of_mean(values)};
}

}  // namespace

const char* name_of(TaskForm form) {
  switch (form) {
    case TaskForm::choices:
      return "choices";
    case TaskForm::contexts:
      return "contexts";
    case TaskForm::cloze:
      break;
  }
  return "cloze";
}

ChoiceTask read_choice_task(const std::filesystem::path& path, const PromptStyle& style, int64_t limit) {
  ChoiceTask task;
  task.name = path.stem();
  task.path = path;
  std::optional<TaskForm> form;
  int64_t number = 0;
  for (const auto& text : split(read_text(path, kMaxTaskBytes), '\n')) {
    ++number;
    if (trim(text).empty()) continue;
    if (limit > 0 && static_cast<int64_t>(task.items.size()) == limit) break;
    const TaskLine line(path, number, text);
    if (!form) form = line.form();
    if (line.form() != *form)
      line.fail(format("has different fields than the lines before it, which have the form %s", name_of(*form)));
    task.items.push_back(read_item(line, *form, style, number));
  }
  if (!form) throw Error(ExitCode::bad_input, path.string() + " has no items", kFormsHint);
  task.form = *form;
  return task;
}

std::vector<TextPair> encode_task(const ChoiceTask& task, const Tokenizer& tokenizer) {
  std::vector<TextPair> pairs;
  for (const auto& item : task.items) {
    for (const auto& option : item.options) {
      pairs.push_back(encode_pair(tokenizer, option.context, option.continuation));
      if (pairs.back().continuation.empty()) {
        throw Error(
            ExitCode::bad_input,
            format("%s:%lld has a continuation that encodes to no tokens", task.path.c_str(), static_cast<long long>(item.line)),
            "a continuation must not consist of spaces only");
      }
    }
  }
  return pairs;
}

TaskResult summarize(const ChoiceTask& task, std::span<const Likelihood> likelihoods) {
  TaskResult result;
  result.items = static_cast<int64_t>(task.items.size());
  std::vector<double> by_sum, by_character, by_byte, losses;
  for (const auto& item : task.items) {
    const auto scores = likelihoods.first(item.options.size());
    likelihoods = likelihoods.subspan(item.options.size());
    if (std::any_of(scores.begin(), scores.end(), [](const Likelihood& score) { return score.truncated; })) ++result.truncated;
    if (task.form == TaskForm::cloze) {
      by_sum.push_back(scores[0].greedy);
      losses.push_back(-scores[0].log_prob);
      continue;
    }
    const auto right = [&](const auto& length) {
      size_t best = 0;
      const auto value = [&](size_t i) { return scores[i].log_prob / static_cast<double>(length(item.options[i])); };
      for (size_t i = 1; i < scores.size(); ++i) {
        if (value(i) > value(best)) best = i;
      }
      return best == item.gold ? 1.0 : 0.0;
    };
    by_sum.push_back(right([](const ChoiceOption&) { return 1; }));
    if (task.form == TaskForm::contexts) continue;  // one continuation for all: nothing to normalize by
    by_character.push_back(right([](const ChoiceOption& option) { return option.characters; }));
    by_byte.push_back(right([](const ChoiceOption& option) { return option.bytes; }));
  }
  const Share nothing{kNaN, kNaN};
  result.acc = mean_of_items(by_sum);
  result.acc_norm = by_character.empty() ? nothing : mean_of_items(by_character);
  result.acc_bytes = by_byte.empty() ? nothing : mean_of_items(by_byte);
  result.perplexity = nothing;
  if (!losses.empty()) {
    const Share loss = mean_of_items(losses);
    const double perplexity = std::exp(loss.value);
    result.perplexity = {perplexity, perplexity * loss.standard_error};
  }
  return result;
}

}  // namespace pgolf
