// Multiple-choice and cloze sets: JSON lines -> items -> accuracies.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "pgolf/eval/likelihood.h"

namespace pgolf {

/// The forms of llm-foundry's files, known by the fields of their lines.
enum class TaskForm {
  choices,   ///< {"query", "choices": [..], "gold"}: which continuation of one context (piqa, arc, copa, openbook_qa, hellaswag)
  contexts,  ///< {"context_options": [..], "continuation", "gold"}: after which context the continuation is likeliest
             ///< (winogrande)
  cloze      ///< {"context", "continuation"}: whether the continuation is what the model would say (lambada, pubmed_qa)
};
const char* name_of(TaskForm form);

/// What stands between context and continuation. automatic: a blank, unless the continuation begins with white space or
/// punctuation (", and").
enum class Delimiter { automatic, space, none };

struct PromptStyle {
  Delimiter delimiter = Delimiter::automatic;
  bool answer_cue = false;  ///< the contexts of TaskForm::choices end in "\nAnswer:", white space before it removed
};

struct ChoiceOption {
  std::string context, continuation;  ///< as the model reads them one behind the other
  int64_t characters = 0, bytes = 0;  ///< of the continuation in the file: without delimiter, characters being code points
};

struct ChoiceItem {
  int64_t line = 0;  ///< in the file, from 1
  std::vector<ChoiceOption> options;
  size_t gold = 0;  ///< the right one; a cloze item has no other
};

struct ChoiceTask {
  std::string name;  ///< the file's, without folder and extension
  std::filesystem::path path;
  TaskForm form = TaskForm::choices;
  std::vector<ChoiceItem> items;
};

/// limit: the first so many items; 0 = all. Error(bad_input) naming file and line for what is no JSON object, has the fields of
/// no form or of another than the first line, or fields of a wrong type or range; and for a file without items.
ChoiceTask read_choice_task(const std::filesystem::path& path, const PromptStyle& style, int64_t limit);

/// All options' parts, item by item. Error(bad_input) naming file and line if an option adds no token to its context.
std::vector<TextPair> encode_task(const ChoiceTask& task, const Tokenizer& tokenizer);

struct Share {
  double value = 0, standard_error = 0;  ///< the error is NaN for a single item
};

struct TaskResult {
  int64_t items = 0;
  int64_t truncated = 0;  ///< items with an option whose context did not fit
  /// Share of items whose right option has the largest log-probability; by itself, per character, per byte. The first of equals
  /// counts. cloze: share of greedy ones, and the other two are NaN.
  Share acc, acc_norm, acc_bytes;
  Share perplexity;  ///< cloze: exp(-mean log-probability of an item), error by the delta method; else NaN
};

/// likelihoods: one per option, in encode_task()'s order.
TaskResult summarise(const ChoiceTask& task, std::span<const Likelihood> likelihoods);

}  // namespace pgolf
