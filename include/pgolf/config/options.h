// One table of options per program. Each entry defines a flag, an environment variable, a config-file key, validation, and a line
// in --help, --print-config and the Markdown reference.
//
// Spelling: TRAIN_BATCH_TOKENS in the environment and in a config file,
// --train-batch-tokens on the command line. Precedence: flag > environment > config file (a later file wins) > default.
// A program that chooses a value itself resolves again with an Override, which takes precedence over all of these.
//
// Terms: an *option* has a value that belongs to the configuration. An *action* (--help, --dry-run, --resume) is a
// flag only: it has no environment variable and no config-file key.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace pgolf {

using Environment = std::map<std::string, std::string>;

/// From the environ array of a process ("NAME=VALUE" strings, a null pointer ends it).
Environment read_environment(const char* const* entries);

/// The numbers an option accepts.
struct Interval {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;   ///< low itself is excluded
  bool high_open = false;  ///< high itself is excluded

  bool contains(double value) const;
  std::string text() const;  ///< ">= 0", "0 <= x < 1"; empty if unbounded
};

/// Ties an option to the field that holds its value. The field's value at the time of binding is the default.
struct Binding {
  std::string type;          ///< "integer", "number", "boolean", "text", "list", "choice"
  std::string range;         ///< ">= 1", "auto|cpu|cuda"; may be empty
  std::string default_text;  ///< canonical; empty: no default
  /// Stores the text's value in the field and returns its canonical text. Throws Error(usage) with a
  /// reason that completes a sentence ("is not an integer >= 1").
  std::function<std::string(std::string_view)> assign;
};

namespace bind {

Binding integer(int* field, int low, int high = std::numeric_limits<int>::max());
Binding integer(int64_t* field, int64_t low, int64_t high = std::numeric_limits<int64_t>::max());
Binding number(double* field, Interval interval);
/// Like number, but whole numbers are written like integers: "2", not "2.0".
Binding short_number(double* field, Interval interval);
/// Like number, but "none" restores the default, the field's value at the time of binding.
Binding number_or_none(double* field, Interval interval);
Binding boolean(bool* field);
Binding text(std::string* field);  ///< not empty
/// Comma-separated; whitespace around entries and empty entries are dropped. Empty text is the empty list.
Binding list(std::vector<std::string>* field);
Binding integers(std::vector<int>* field, int low, int high);  ///< the same, of integers
/// Per layer (layer_list.h), at least one entry: `word`, which is 0, or an integer from 1 to high. The list {0} is the default.
Binding layer_integers(std::vector<int>* field, const std::string& word, int high);

/// The untyped part of choice(): names, index of the default, callback for the chosen index.
Binding choice_of(std::vector<std::string> names, size_t chosen, std::function<void(size_t)> store);

template <typename Enum>
Binding choice(Enum* field, const std::vector<std::pair<std::string, Enum>>& values) {
  std::vector<std::string> names;
  std::vector<Enum> enums;
  size_t chosen = 0;
  for (const auto& [name, value] : values) {
    if (value == *field) chosen = names.size();
    names.push_back(name);
    enums.push_back(value);
  }
  return choice_of(std::move(names), chosen, [field, enums](size_t index) { *field = enums[index]; });
}

/// For an enumeration with enum_texts (enum_text.h).
template <typename Enum>
Binding choice(Enum* field) {
  const auto texts = enum_texts(*field);
  return choice<Enum>(field, {texts.begin(), texts.end()});
}

}  // namespace bind

/// Whether a resumed run must use the value stored in the checkpoint.
enum class Resume { may_differ, must_match };

struct Option {
  std::string name;  ///< upper case, as in the environment
  std::string group;
  Binding value;
  std::string unit;  ///< "tokens", "seconds"; may be empty
  std::string help;
  Resume resume = Resume::may_differ;
  bool required = false;
};

struct Action {
  std::string name;  ///< lower case, without dashes; "help" also accepts -h
  /// bool: a switch without a value. string: takes a value. vector: takes a value and may be repeated.
  std::variant<bool*, std::string*, std::vector<std::string>*> field;
  std::string help;
  std::string label = {};    ///< name of the value in --help
  std::string implied = {};  ///< if not empty, the value is optional and defaults to this
  bool stops = false;        ///< if given, options are not resolved (so that --help always works)
};

enum class Source { default_value, config_file, environment, flag, override };

struct ResolvedOption {
  std::string name;
  std::string text;  ///< canonical: reads back to the same value
  Source source = Source::default_value;
  std::string origin;  ///< "flag --rope-dims", "environment ROPE_DIMS", "file PATH:LINE", "default" or an Override's
  std::string group;
  bool must_match = false;  ///< Resume::must_match
  bool replayable = true;   ///< false: omitted from config_env_text
};

/// A value that replaces the given one; checked like any other.
struct Override {
  std::string name, text, origin;
};
using Overrides = std::vector<Override>;

struct Resolution {
  bool stopped = false;                 ///< an action with `stops` was given; options is empty
  std::vector<ResolvedOption> options;  ///< in table order
  std::vector<std::string> warnings;
};

class OptionTable {
 public:
  /// usage: the text after "Usage: "; summary: one or more lines below it.
  OptionTable(std::string usage, std::string summary) : usage_(std::move(usage)), summary_(std::move(summary)) {}

  /// Options added after this belong to this group and default to this Resume.
  void group(std::string title, Resume resume = Resume::may_differ) {
    group_ = std::move(title);
    group_resume_ = resume;
  }
  void add(std::string name, Binding value, std::string unit, std::string help, std::optional<Resume> resume = {});
  /// No default: must be given.
  void add_required(std::string name, Binding value, std::string unit, std::string help);
  void add_action(Action action) { actions_.push_back(std::move(action)); }
  /// Without this, positional arguments are errors.
  void accept_positional(std::vector<std::string>* field) { positional_ = field; }
  /// Adds --config FILE, repeatable.
  void accept_config_files() { config_files_ = true; }
  /// Without this the options have no environment variables.
  void accept_environment() { environment_ = true; }

  /// Sets the bound fields. A boolean flag without a value is 1. Errors (usage): unknown flag or key (naming the nearest known
  /// one), a flag or a file's key given twice, a missing, unreadable or out-of-range value, a missing required option, an
  /// unexpected argument. Warnings: an environment variable one typo away from an option's name; an empty environment variable,
  /// which is ignored because shells and containers leave them behind (for a list it is the empty list). A value that is
  /// overridden by a source of higher precedence is not checked.
  Resolution resolve(int argc, const char* const* argv, const Environment& environment, const Overrides& overrides = {}) const;

  std::string help() const;
  std::string markdown() const;  ///< a table per group

 private:
  struct Given {
    std::string text;
    Source source;
    std::string origin;
  };
  struct CommandLine;

  /// argv in the form that cxxopts expects; throws for what it cannot handle.
  std::vector<std::string> checked_arguments(int argc, const char* const* argv) const;
  /// (name without dashes, value) in the order given.
  std::vector<std::pair<std::string, std::string>> split_arguments(int argc, const char* const* argv) const;
  CommandLine parse_command_line(int argc, const char* const* argv) const;
  void read_config_file(const std::string& path, std::map<std::string, Given>* given) const;
  void take_environment(const Environment& environment, std::map<std::string, Given>* given,
                        std::vector<std::string>* warnings) const;
  std::vector<std::string> option_names() const;
  std::vector<std::string> flag_names() const;
  std::string details(const Option& option) const;

  std::string usage_, summary_, group_;
  Resume group_resume_ = Resume::may_differ;
  std::vector<Option> options_;
  std::vector<Action> actions_;
  std::vector<std::string>* positional_ = nullptr;
  bool config_files_ = false;
  bool environment_ = false;
};

/// TRAIN_BATCH_TOKENS -> --train-batch-tokens.
std::string flag_of(std::string_view option_name);

/// The entry of that name, which must exist.
const ResolvedOption& find_option(const std::vector<ResolvedOption>& options, std::string_view name);
ResolvedOption& find_option(std::vector<ResolvedOption>& options, std::string_view name);

/// Error(usage) "A=x (origin), B=y (origin): reason".
[[noreturn]] void refuse(const std::vector<ResolvedOption>& options, const std::vector<const char*>& names,
                         const std::string& reason, const std::string& hint = {});

/// What --print-config prints: "NAME=VALUE  # origin" under group headings. Entries that are not replayable are
/// commented out, so that the text is also a config file.
std::string config_listing(const std::vector<ResolvedOption>& options);

/// A config file that reproduces the configuration through --config.
std::string config_env_text(const std::vector<ResolvedOption>& options);

/// Differences that prevent resuming from a checkpoint: "KEY: checkpoint has X, this run has Y". stored: name -> canonical text
/// of all options of the run that wrote the checkpoint. An option that only the checkpoint has is a difference; one that only
/// this program has is a difference unless it has its default.
std::vector<std::string> resume_differences(const std::map<std::string, std::string>& stored,
                                            const std::vector<ResolvedOption>& current);

}  // namespace pgolf
