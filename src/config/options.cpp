#include "pgolf/config/options.h"

#include <algorithm>
#include <cxxopts.hpp>
#include <exception>
#include <new>
#include <set>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/config_file.h"
#include "pgolf/config/parse.h"

namespace pgolf {
namespace {

constexpr const char* kPositional = "positional-arguments";
constexpr const char* kSwitchedOn = "1";  ///< value of a switch that is given
/// cxxopts matches every argument with a recursive regular expression, which overflows the stack at about 100 kB.
constexpr size_t kMaxArgument = 8192;
/// Shorter names are one typo away from too many unrelated variables.
constexpr size_t kMinNameForTypos = 4;

std::string suggestion(std::string_view name, const std::vector<std::string>& known) {
  const std::string near = nearest_name(name, known, std::max<size_t>(2, name.size() / 3));
  return near.empty() ? "--help lists all options" : "did you mean " + near + "?";
}

std::string option_name_of(std::string_view flag) {
  std::string name = upper_case(flag);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

/// "--x", "-x", "--", but not "-", "-5" or "-.5".
bool looks_like_flag(std::string_view argument) {
  if (!argument.starts_with('-') || argument.size() < 2) return false;
  return argument[1] != '.' && !(argument[1] >= '0' && argument[1] <= '9');
}

std::string value_error(const std::string& name, const std::string& text, const std::string& origin, const std::string& reason) {
  return format("%s='%s' (%s) %s", name.c_str(), printable(text).c_str(), origin.c_str(), reason.c_str());
}

void take_action(const Action& action, const std::string& value) {
  if (value.empty()) throw Error(ExitCode::usage, "--" + action.name + " has an empty value");
  if (const auto toggle = std::get_if<bool*>(&action.field)) {
    if (value != kSwitchedOn) {
      throw Error(ExitCode::usage, "--" + action.name + " takes no value, but got '" + printable(value) + "'");
    }
    **toggle = true;
  } else if (const auto text = std::get_if<std::string*>(&action.field)) {
    **text = value;
  } else {
    std::get<std::vector<std::string>*>(action.field)->push_back(value);
  }
}

}  // namespace

struct OptionTable::CommandLine {
  std::map<std::string, Given> options;
  std::vector<std::string> config_files;
  bool stopped = false;
};

Environment read_environment(const char* const* entries) {
  Environment environment;
  for (; entries && *entries; ++entries) {
    const std::string_view entry = *entries;
    const size_t equals = entry.find('=');
    if (equals != std::string_view::npos) environment.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return environment;
}

std::string flag_of(std::string_view option_name) {
  std::string flag = "--" + lower_case(option_name);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

void OptionTable::add(std::string name, Binding value, std::string unit, std::string help, std::optional<Resume> resume) {
  options_.push_back({std::move(name), group_, std::move(value), std::move(unit), std::move(help), resume.value_or(group_resume_),
                      /*required=*/false});
}

void OptionTable::add_required(std::string name, Binding value, std::string unit, std::string help) {
  add(std::move(name), std::move(value), std::move(unit), std::move(help));
  options_.back().required = true;
}

std::vector<std::string> OptionTable::option_names() const {
  std::vector<std::string> names;
  for (const auto& option : options_) names.push_back(option.name);
  return names;
}

std::vector<std::string> OptionTable::flag_names() const {
  std::vector<std::string> names;
  for (const auto& option : options_) names.push_back(flag_of(option.name));
  for (const auto& action : actions_) names.push_back("--" + action.name);
  if (config_files_) names.push_back("--config");
  return names;
}

/// Handles what cxxopts does not, or does differently across versions: unknown flags (with a suggestion), and optional values
/// given as separate arguments ("--resume auto"), which it expects as "--resume=auto".
std::vector<std::string> OptionTable::checked_arguments(int argc, const char* const* argv) const {
  std::vector<std::string> arguments;
  const std::vector<std::string> known = flag_names();
  const auto is_boolean = [&](const std::string& flag) {
    return std::any_of(options_.begin(), options_.end(),
                       [&](const auto& option) { return flag_of(option.name) == flag && option.value.type == "boolean"; });
  };
  // Where positional arguments are accepted, anything that is not a boolean is one of them.
  const auto no_value_follows = [&](const char* next) {
    return next == nullptr || looks_like_flag(next) || (positional_ != nullptr && !parse_boolean(next));
  };
  bool flags_may_come = true;
  for (int i = 0; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument.size() > kMaxArgument) {
      throw Error(ExitCode::usage, format("argument %d is longer than %zu characters", i, kMaxArgument), "use a config file");
    }
    if (argument == "--") flags_may_come = false;
    if (i > 0 && flags_may_come && argument != "-h" && looks_like_flag(argument)) {
      const std::string flag = argument.substr(0, argument.find('='));
      if (std::find(known.begin(), known.end(), flag) == known.end()) {
        const std::string spelled = option_name_of(flag.substr(flag.starts_with("--") ? 2 : 1));
        throw Error(ExitCode::usage, "unknown flag " + printable(flag), suggestion(flag_of(spelled), known));
      }
      const auto action =
          std::find_if(actions_.begin(), actions_.end(), [&](const Action& a) { return "--" + a.name == argument; });
      const bool optional_value = action != actions_.end() && !action->implied.empty();
      if (optional_value && i + 1 < argc && argv[i + 1][0] != '-') argument += std::string("=") + argv[++i];
      if (is_boolean(argument) && no_value_follows(i + 1 < argc ? argv[i + 1] : nullptr)) argument += "=1";
    }
    arguments.push_back(std::move(argument));
  }
  return arguments;
}

std::vector<std::pair<std::string, std::string>> OptionTable::split_arguments(int argc, const char* const* argv) const {
  cxxopts::Options parser("", "");
  const auto expect = [&](const std::string& name, const std::string& implied) {
    const auto value = cxxopts::value<std::string>();
    if (!implied.empty()) value->implicit_value(implied);
    parser.add_options()(name == "help" ? "h,help" : name, "", value);
  };
  for (const auto& option : options_) expect(flag_of(option.name).substr(2), "");
  for (const auto& action : actions_) {
    expect(action.name, std::holds_alternative<bool*>(action.field) ? kSwitchedOn : action.implied);
  }
  if (config_files_) expect("config", "");
  parser.add_options()(kPositional, "", cxxopts::value<std::vector<std::string>>());
  parser.parse_positional(kPositional);

  std::vector<std::string> arguments = checked_arguments(argc, argv);
  if (arguments.empty()) arguments.emplace_back();
  std::vector<char*> pointers;
  for (auto& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);

  // cxxopts 2.2.1 takes both by non-const reference; later versions accept this too.
  int count = static_cast<int>(arguments.size());
  char** words = pointers.data();
  std::vector<std::pair<std::string, std::string>> given;
  try {
    const auto result = parser.parse(count, words);
    for (const auto& argument : result.arguments()) given.emplace_back(argument.key(), argument.value());
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {  // the exception classes differ across versions
    throw Error(ExitCode::usage, e.what(), "--help lists all flags and their values");
  }
  return given;
}

OptionTable::CommandLine OptionTable::parse_command_line(int argc, const char* const* argv) const {
  CommandLine line;
  std::set<std::string> seen;
  for (const auto& given : split_arguments(argc, argv)) {
    const std::string &name = given.first, &value = given.second, flag = "--" + name;
    if (name == kPositional) {
      if (!positional_) {
        throw Error(ExitCode::usage, "unexpected argument '" + printable(value) + "'",
                    "pass settings as flags; --help lists them");
      }
      positional_->push_back(value);
      continue;
    }
    if (looks_like_flag(value)) {
      throw Error(ExitCode::usage, flag + " is followed by '" + printable(value) + "', which looks like a flag, not a value",
                  "write a path that starts with '-' as ./-NAME");
    }
    const auto action = std::find_if(actions_.begin(), actions_.end(), [&](const Action& a) { return a.name == name; });
    const bool is_action = action != actions_.end();
    const bool repeatable =
        is_action ? std::holds_alternative<std::vector<std::string>*>(action->field) : config_files_ && name == "config";
    if (!seen.insert(name).second && !repeatable) throw Error(ExitCode::usage, flag + " is given twice", "remove one of them");
    if (is_action) {
      take_action(*action, value);
      line.stopped = line.stopped || action->stops;
    } else if (repeatable) {
      line.config_files.push_back(value);
    } else {
      line.options[option_name_of(name)] = {value, Source::flag, "flag " + flag};
    }
  }
  return line;
}

void OptionTable::read_config_file(const std::string& path, std::map<std::string, Given>* given) const {
  const std::vector<std::string> known = option_names();
  for (auto& entry : pgolf::read_config_file(path)) {
    if (std::find(known.begin(), known.end(), entry.key) == known.end()) {
      throw Error(ExitCode::usage, entry.origin + ": unknown key " + printable(entry.key),
                  suggestion(option_name_of(entry.key), known));
    }
    (*given)[entry.key] = {std::move(entry.value), Source::config_file, "file " + entry.origin};
  }
}

void OptionTable::take_environment(const Environment& environment, std::map<std::string, Given>* given,
                                   std::vector<std::string>* warnings) const {
  std::vector<std::string> long_names;
  for (const auto& option : options_) {
    if (option.name.size() >= kMinNameForTypos) long_names.push_back(option.name);
    const auto variable = environment.find(option.name);
    if (variable == environment.end()) continue;
    if (variable->second.empty() && option.value.type != "list") {
      warnings->push_back("the environment variable " + option.name + " is empty and ignored");
      continue;
    }
    (*given)[option.name] = {variable->second, Source::environment, "environment " + option.name};
  }
  const std::vector<std::string> known = option_names();
  for (const auto& [name, value] : environment) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string near = nearest_name(upper_case(name), long_names, /*max_distance=*/1);
    if (near.empty()) continue;
    warnings->push_back("the environment variable " + printable(name) + " is not used; did you mean " + near + "?");
  }
}

Resolution OptionTable::resolve(int argc, const char* const* argv, const Environment& environment,
                                const Overrides& overrides) const {
  Resolution resolution;
  CommandLine line = parse_command_line(argc, argv);
  resolution.stopped = line.stopped;
  if (line.stopped) return resolution;

  std::map<std::string, Given> given;
  for (const std::string& path : line.config_files) read_config_file(path, &given);
  if (environment_) take_environment(environment, &given, &resolution.warnings);
  for (auto& [name, value] : line.options) given[name] = std::move(value);
  for (const auto& [name, text, origin] : overrides) given[name] = {text, Source::override, origin};

  for (const auto& option : options_) {
    ResolvedOption resolved{option.name,  option.value.default_text,          Source::default_value, "default",
                            option.group, option.resume == Resume::must_match};
    const auto found = given.find(option.name);
    if (found == given.end()) {
      if (option.required) {
        throw Error(ExitCode::usage, flag_of(option.name) + " is required", option.help);
      }
    } else {
      const auto& [text, source, origin] = found->second;
      if (text.empty() && option.value.type != "list") {
        throw Error(ExitCode::usage, value_error(option.name, text, origin, "is empty"));
      }
      try {
        resolved.text = option.value.assign(text);
      } catch (const Error& e) {
        throw Error(ExitCode::usage, value_error(option.name, text, origin, e.what()), e.hint());
      }
      resolved.source = source;
      resolved.origin = origin;
    }
    resolution.options.push_back(std::move(resolved));
  }
  return resolution;
}

}  // namespace pgolf
