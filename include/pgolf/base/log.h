// Human-readable log. Info lines go to standard output and, after open_log_file, to that file, both without
// prefix (the format is upstream's); warnings go to standard error and the file.
// Only the implementation includes spdlog: its fmt clashes with the one in LibTorch's include folder.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace pgolf::log {

/// Appends to path from now on.
void open_log_file(const std::filesystem::path& path);
void close_log_file();

/// In a job of several processes: those of another rank than 0 print no information, and "[rank N] " before what they do print.
void set_rank(int rank);
std::string rank_prefix();  ///< "[rank N] ", or "" before set_rank() and of rank 0

void info(std::string_view line);       ///< terminal and file
void file_only(std::string_view line);  ///< file
void warn(std::string_view line);       ///< "warning: line" on standard error and in the file
/// On standard error, at once or not at all: a line that would have to wait for a reader is dropped, and the next line that is
/// written says how many were. Of a line of 4 KiB or more only the beginning is written. For servers, from any thread.
void err_or_drop(std::string_view line);

}  // namespace pgolf::log
