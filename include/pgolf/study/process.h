// Child processes that do not outlive this one.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace pgolf {

/// Starts words[0] with both output streams appended to log, no input, and variables set in its environment besides those of
/// this process. It is out of reach of the terminal's Ctrl-C and killed when this process ends, however that comes.
/// Error(unavailable) if it cannot be started. The caller waits for it.
pid_t start_process(const std::vector<std::string>& words, const std::vector<std::pair<std::string, std::string>>& variables,
                    const std::filesystem::path& log);

/// The folder of the running program's file.
std::filesystem::path program_folder();

}  // namespace pgolf
