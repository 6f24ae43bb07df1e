// Output of the commands of eval_gpt.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/base/table.h"
#include "pgolf/config/options.h"

namespace pgolf {

/// Values of --format. text: lines after each model.
enum class Format { text, table, md, csv, jsonl };

/// A choice among `offered`; the field's value is the default.
Binding format_choice(Format* form, const std::vector<Format>& offered = {Format::table, Format::md, Format::csv, Format::jsonl});

/// As Markdown, CSV, or aligned columns.
std::string table_text(const Table& table, Format form);

using JsonRows = std::vector<nlohmann::ordered_json>;

/// One line per row. Bytes that are not UTF-8, as in names and paths, are replaced.
std::string json_lines(const JsonRows& rows);

/// The rows as a table whose columns are the keys of all rows, in order of appearance. Missing, null and non-finite values
/// are empty; lists of numbers are joined by x, other lists by spaces.
Table table_of(const JsonRows& rows);

/// Error(io) if the option names a file that cannot be written; call it before the work.
void check_writable(const char* option, const std::string& path);

/// Writes the file atomically; to standard output if the path is empty. Error(io) on failure.
void write_result(const std::string& path, const std::string& text);

/// Calls use for each path. One bad file among several is a warning and sets the exit code; the others are still used. Errors
/// name the file.
ExitCode for_each_file(const std::vector<std::string>& paths, const std::function<void(const std::string& path)>& use);

}  // namespace pgolf
