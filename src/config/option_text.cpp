// Text about options: --help, the Markdown reference, --print-config, config.env, resume differences.
#include <stdexcept>
#include <utility>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/config_file.h"
#include "pgolf/config/options.h"
#include "pgolf/config/parse.h"

namespace pgolf {
namespace {

std::string type_and_range(const Binding& value) {
  if (value.type == "choice") return value.range;
  return value.range.empty() ? value.type : value.type + " " + value.range;
}

std::string markdown_cell(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

/// "NAME=VALUE  # origin"; commented out if not readable.
std::string config_line(const ResolvedOption& option, bool readable) {
  std::string assignment = option.name + "=" + quote_config_value(option.text);
  if (!readable) assignment = "# " + assignment;
  return format("%-40s  # %s\n", assignment.c_str(), option.origin.c_str());
}

bool has_value(const ResolvedOption& option) {
  return option.source != Source::default_value || !option.text.empty();
}

}  // namespace

std::string OptionTable::details(const Option& option) const {
  std::string out = type_and_range(option.value);
  if (!option.unit.empty()) out += ", " + option.unit;
  if (option.required) {
    out += "; required";
  } else if (!option.value.default_text.empty()) {
    out += "; default " + option.value.default_text;
  }
  if (environment_) out += "; environment " + option.name;
  return out;
}

std::string OptionTable::help() const {
  std::string out = "Usage: " + usage_ + "\n\n" + summary_ + "\n";
  if (environment_ || config_files_) {
    out += "\nPrecedence: flag";
    if (environment_) out += " > environment variable";
    if (config_files_) out += " > config file (KEY=VALUE lines, # comments)";
    out += " > default.\n";
  }
  out += "\nActions\n";
  if (config_files_) out += "  --config FILE\n      Read options from FILE. Repeatable; later files win.\n";
  for (const auto& action : actions_) {
    const std::string label = action.implied.empty() ? " " + action.label : " [" + action.label + "]";
    out += "  --" + action.name + (action.label.empty() ? "" : label) + (action.name == "help" ? ", -h" : "") + "\n      " +
           action.help + "\n";
  }
  std::string group;
  for (const auto& option : options_) {
    if (option.group != group) out += "\n" + option.group + "\n";
    group = option.group;
    std::string label = upper_case(option.value.type.substr(0, option.value.type.find(' ')));
    if (option.value.type == "boolean") label = "[" + label + "]";
    out += "  " + flag_of(option.name) + " " + label + "\n      " + option.help + "\n      " + details(option) + "\n";
  }
  return out;
}

std::string OptionTable::markdown() const {
  std::string out, group;
  for (const auto& option : options_) {
    if (out.empty() || option.group != group) {
      out += (out.empty() ? "### " : "\n### ") + option.group + "\n\n";
      out += environment_ ? "| flag | environment, config key " : "| flag ";
      out += "| type | unit | default | meaning |\n";
      out += environment_ ? "|---|---|---|---|---|---|\n" : "|---|---|---|---|---|\n";
    }
    group = option.group;
    const std::string default_text = option.required ? "required" : markdown_cell(option.value.default_text);
    out += "| `" + flag_of(option.name) + "` | ";
    if (environment_) out += "`" + option.name + "` | ";
    out += markdown_cell(type_and_range(option.value)) + " | " + option.unit + " | " + default_text + " | " +
           markdown_cell(option.help) + " |\n";
  }
  return out;
}

const ResolvedOption& find_option(const std::vector<ResolvedOption>& options, std::string_view name) {
  for (const auto& option : options) {
    if (option.name == name) return option;
  }
  throw std::out_of_range("no option named " + std::string(name));
}

ResolvedOption& find_option(std::vector<ResolvedOption>& options, std::string_view name) {
  return const_cast<ResolvedOption&>(find_option(std::as_const(options), name));
}

void refuse(const std::vector<ResolvedOption>& options, const std::vector<const char*>& names, const std::string& reason,
            const std::string& hint) {
  std::string what;
  for (const char* name : names) {
    const ResolvedOption& option = find_option(options, name);
    what += (what.empty() ? "" : ", ") + option.name + "=" + printable(option.text) + " (" + option.origin + ")";
  }
  throw Error(ExitCode::usage, what + ": " + reason, hint);
}

std::string config_listing(const std::vector<ResolvedOption>& options) {
  std::string out, group;
  for (const auto& option : options) {
    if (out.empty() || option.group != group) out += (out.empty() ? "# " : "\n# ") + option.group + "\n";
    group = option.group;
    out += config_line(option, option.replayable && has_value(option));
  }
  return out;
}

std::string config_env_text(const std::vector<ResolvedOption>& options) {
  std::string out = "# Configuration of a run; pass this file to --config to reproduce it.\n";
  for (const auto& option : options) {
    if (option.replayable && has_value(option)) out += config_line(option, /*readable=*/true);
  }
  return out;
}

std::vector<std::string> resume_differences(const std::map<std::string, std::string>& stored,
                                            const std::vector<ResolvedOption>& current) {
  std::vector<std::string> differences;
  auto unknown = stored;
  for (const auto& option : current) {
    unknown.erase(option.name);
    if (!option.must_match) continue;
    const auto before = stored.find(option.name);
    if (before == stored.end()) {
      if (option.source == Source::default_value) continue;
      differences.push_back(option.name + ": checkpoint has no such option, this run has " + option.text);
    } else if (before->second != option.text) {
      differences.push_back(option.name + ": checkpoint has " + before->second + ", this run has " + option.text);
    }
  }
  for (const auto& [name, text] : unknown) {
    differences.push_back(name + ": checkpoint has " + text + ", this program has no such option");
  }
  return differences;
}

}  // namespace pgolf
