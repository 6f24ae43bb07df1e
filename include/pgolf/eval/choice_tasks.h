// Multiple-choice and cloze tasks: JSON lines -> items -> accuracies.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pgolf/eval/likelihood.h"

namespace pgolf {

/// The formats of llm-foundry's files, recognized by the fields of their lines.
enum class TaskForm {
  choices,   ///< {"query", "choices": [..], "gold"}: most likely continuation of a context (piqa, arc, copa, openbook_qa,
             ///< hellaswag)
  contexts,  ///< {"context_options": [..], "continuation", "gold"}: context after which the continuation is most likely
             ///< (winogrande)
  cloze      ///< {"context", "continuation"}: whether the continuation is the model's greedy output (lambada, pubmed_qa)
};
const char* name_of(TaskForm form);

/// Separator between context and continuation. automatic: a space, unless the continuation begins with white space or
/// punctuation (", and").
enum class Delimiter { automatic, space, none };

struct PromptStyle {
  Delimiter delimiter = Delimiter::automatic;
  bool answer_cue = false;  ///< the contexts of TaskForm::choices end in "\nAnswer:", white space before it removed
};

struct ChoiceOption {
  std::string context, continuation;  ///< concatenated they are the model's input
  int64_t characters = 0, bytes = 0;  ///< of the continuation without delimiter; characters are code points
};

struct ChoiceItem {
  int64_t line = 0;  ///< in the file, from 1
  std::vector<ChoiceOption> options;
  size_t gold = 0;  ///< index of the correct option; 0 for cloze items
};

struct ChoiceTask {
  std::string name;  ///< the file's name without folder and extension
  std::filesystem::path path;
  TaskForm form = TaskForm::choices;
  std::vector<ChoiceItem> items;
};

/// limit: read only the first `limit` items; 0 = all. Error(bad_input) naming file and line if a line is not a JSON object, does
/// not match a form or has a different form than the first line, or has fields of a wrong type or range; also for a file without
/// items.
ChoiceTask read_choice_task(const std::filesystem::path& path, const PromptStyle& style, int64_t limit);

/// Context and continuation of all options, item by item. Error(bad_input) naming file and line if an option adds no token to its
/// context.
std::vector<TextPair> encode_task(const ChoiceTask& task, const Tokenizer& tokenizer);

struct Share {
  double value = 0, standard_error = 0;  ///< the error is NaN for a single item
};

struct TaskResult {
  int64_t items = 0;
  int64_t truncated = 0;  ///< items with an option whose context was truncated
  /// Share of items whose correct option has the largest log-probability: total, per character, per byte. Ties go to the first
  /// option. cloze: acc is the share of greedy matches, the other two are NaN.
  Share acc, acc_norm, acc_bytes;
  Share perplexity;  ///< cloze: exp(-mean log-probability of an item), error by the delta method; otherwise NaN
};

/// likelihoods: one per option, in encode_task()'s order.
TaskResult summarize(const ChoiceTask& task, std::span<const Likelihood> likelihoods);

}  // namespace pgolf
