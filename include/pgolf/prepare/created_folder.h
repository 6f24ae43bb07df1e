// A folder for output, which does not stay if nothing comes of the output.
#pragma once

#include <filesystem>
#include <vector>

namespace pgolf {

/// Creates a folder and its parents; Error(io) on failure. In the end, what it created and is still empty is removed again.
class CreatedFolder {
 public:
  explicit CreatedFolder(const std::filesystem::path& folder);
  CreatedFolder(const CreatedFolder&) = delete;
  CreatedFolder& operator=(const CreatedFolder&) = delete;
  ~CreatedFolder();

 private:
  void remove_empty() const;

  std::vector<std::filesystem::path> created_;  // innermost first
};

}  // namespace pgolf
