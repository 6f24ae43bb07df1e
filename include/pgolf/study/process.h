// Child processes that do not outlive this one.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace pgolf {

/// Starts words[0] with both output streams appended to log, no input, and variables added to the environment of this
/// process. It does not get the terminal's Ctrl-C, and is killed when this process ends, however it ends.
/// Error(unavailable) if it cannot be started. The caller waits for it.
pid_t start_process(const std::vector<std::string>& words, const std::vector<std::pair<std::string, std::string>>& variables,
                    const std::filesystem::path& log);

}  // namespace pgolf
