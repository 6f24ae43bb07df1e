// How the commands of eval_gpt hand out what they found.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/base/table.h"
#include "pgolf/config/options.h"

namespace pgolf {

/// Of --format. text: lines as each model is done.
enum class Format { text, table, md, csv, jsonl };

/// One of these; the field's value is the default.
Binding format_choice(Format* form, const std::vector<Format>& offered = {Format::table, Format::md, Format::csv, Format::jsonl});

/// md, csv, or aligned.
std::string table_text(const Table& table, Format form);

using JsonRows = std::vector<nlohmann::ordered_json>;

/// A line each. Names and paths may hold bytes that are not UTF-8; these are replaced.
std::string json_lines(const JsonRows& rows);

/// The same rows in columns, those of any row in the order in which they come. What a row lacks, and what is null or not
/// finite, is empty; of a list the numbers are joined by x, other entries by blanks.
Table table_of(const JsonRows& rows);

/// Error(io) now, not after all the work, if the option names a file that cannot be written.
void check_writable(const char* option, const std::string& path);

/// Writes to the file, whole or not at all; to standard output if the path is empty. Error(io) if that fails.
void write_result(const std::string& path, const std::string& text);

/// Calls use for each. One bad file among several is a warning and the exit code: it does not hide what the others have.
ExitCode for_each_file(const std::vector<std::string>& paths, const std::function<void(const std::string& path)>& use);

}  // namespace pgolf
