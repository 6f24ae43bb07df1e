#include "pgolf/config/config_file.h"

#include <filesystem>
#include <set>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

[[noreturn]] void fail(const std::string& origin, const std::string& reason) {
  throw Error(ExitCode::usage, origin + ": " + reason, "a config file has lines of the form KEY=VALUE and # comments");
}

/// text starts with a quote.
std::string unquote(std::string_view text, const std::string& origin) {
  const char quote = text.front();
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == quote) {
      const std::string_view rest = trim(text.substr(i + 1));
      if (!rest.empty() && rest.front() != '#') fail(origin, "text after the closing quote");
      return value;
    }
    if (text[i] == '\\' && quote == '"' && i + 1 < text.size()) {
      switch (text[++i]) {
        case 'n':
          value += '\n';
          break;
        case 't':
          value += '\t';
          break;
        case 'r':
          value += '\r';
          break;
        case '"':
          value += '"';
          break;
        case '\\':
          value += '\\';
          break;
        default:
          fail(origin, format("unknown escape \\%c", text[i]));
      }
    } else {
      value += text[i];
    }
  }
  fail(origin, "the quote is not closed");
}

std::string_view without_comment(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '#' && (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t')) return trim(text.substr(0, i));
  }
  return trim(text);
}

/// path itself if there is no such file either.
std::string installed(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::path candidate = program_folder().parent_path() / path;
  return std::filesystem::exists(candidate, ignored) ? candidate.string() : path;
}

}  // namespace

std::vector<ConfigEntry> parse_config_text(std::string_view text, const std::string& path) {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  std::vector<ConfigEntry> entries;
  std::set<std::string> seen;
  size_t number = 0;
  for (const std::string& raw : split(text, '\n')) {
    const std::string origin = printable(path) + ":" + std::to_string(++number);
    const std::string_view line = trim(raw);
    if (line.empty() || line.front() == '#') continue;
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) fail(origin, "no '=' in the line");
    const std::string key(trim(line.substr(0, equals)));
    const std::string_view value = line.substr(equals + 1);
    const std::string_view visible = trim(value);
    const bool quoted = visible.starts_with('"') || visible.starts_with('\'');
    if (!seen.insert(key).second) fail(origin, printable(key) + " is given twice in this file");
    entries.push_back({key, quoted ? unquote(visible, origin) : std::string(without_comment(value)), origin});
  }
  return entries;
}

std::vector<ConfigEntry> read_config_file(const std::string& path) {
  std::error_code ignored;
  const std::string found = std::filesystem::exists(path, ignored) ? path : installed(path);
  return parse_config_text(read_text(found, kMaxFileBytes), found);
}

std::string quote_config_value(std::string_view value) {
  constexpr std::string_view bare = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./,:+=@%*?~^-";
  if (value.find_first_not_of(bare) == std::string_view::npos) return std::string(value);
  std::string out = "\"";
  for (const char c : value) {
    switch (c) {
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      default:
        out += c;
    }
  }
  return out + '"';
}

}  // namespace pgolf
