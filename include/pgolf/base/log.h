// Log lines for people. Information goes to standard output and, once open_log_file was called, to that
// file, both without prefix (the lines are the Python program's); warnings go to standard error and the file.
// The implementation alone sees spdlog: its fmt clashes with the one in LibTorch's include folder.
#pragma once

#include <filesystem>
#include <string_view>

namespace pgolf::log {

/// Appends to path from now on.
void open_log_file(const std::filesystem::path& path);
void close_log_file();

void info(std::string_view line);       ///< terminal and file
void file_only(std::string_view line);  ///< file
void warn(std::string_view line);       ///< "warning: line" on standard error and in the file

}  // namespace pgolf::log
