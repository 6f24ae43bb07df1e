#include "results.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

using nlohmann::ordered_json;

std::string dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string cell_of(const ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null() || (value.is_number_float() && !std::isfinite(value.get<double>()))) return {};
  if (!value.is_array()) return dump(value);
  std::vector<std::string> entries;
  for (const auto& entry : value) entries.push_back(cell_of(entry));
  return join(entries, !value.empty() && value[0].is_number() ? "x" : " ");
}

}  // namespace

Binding format_choice(Format* form, const std::vector<Format>& offered) {
  constexpr const char* names[] = {"text", "table", "md", "csv", "jsonl"};
  std::vector<std::pair<std::string, Format>> choices;
  for (const Format each : offered) choices.emplace_back(names[static_cast<size_t>(each)], each);
  return bind::choice(form, choices);
}

std::string table_text(const Table& table, Format form) {
  return form == Format::csv ? table.csv() : form == Format::md ? table.markdown() : table.aligned();
}

std::string json_lines(const JsonRows& rows) {
  std::string out;
  for (const auto& row : rows) out += dump(row) + "\n";
  return out;
}

Table table_of(const JsonRows& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) {
    for (const auto& [name, value] : row.items()) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  Table table({names.begin(), names.end()});
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    for (const auto& name : names) cells.push_back(row.contains(name) ? cell_of(row[name]) : "");
    table.add(std::move(cells));
  }
  return table;
}

void check_writable(const char* option, const std::string& path) {
  if (path.empty()) return;
  std::error_code none;  // a path that cannot be inspected fails below
  if (std::filesystem::is_directory(path, none)) throw Error(ExitCode::io, format("%s=%s is a folder", option, path.c_str()));
  const AtomicFile created_and_removed(path);
}

void write_result(const std::string& path, const std::string& text) {
  if (!path.empty()) return write_atomic(path, text);
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw Error(ExitCode::io, format("cannot write to standard output: %s", std::strerror(errno)));
}

ExitCode for_each_file(const std::vector<std::string>& paths, const std::function<void(const std::string& path)>& use) {
  ExitCode code = ExitCode::ok;
  for (const auto& path : paths) {
    try {
      use(path);
    } catch (const std::exception& e) {
      const Error error = as_error(e);
      std::string what = error.what();
      if (what.find(path) == std::string::npos) what = path + ": " + what;
      if (paths.size() == 1) throw Error(error.code(), what, error.hint());
      log::warn(printable(what, std::string::npos));
      code = error.code();
    }
  }
  return code;
}

}  // namespace pgolf
