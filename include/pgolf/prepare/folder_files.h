// The files below a folder, and what was left out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace pgolf {

struct FolderFiles {
  std::vector<std::filesystem::path> files;  ///< in byte-wise order of their paths
  std::map<std::string, int64_t> others;     ///< number of other files by their extension (".gz", or "none")
  int64_t folders_again = 0;                 ///< links to folders that are read elsewhere, a folder above, for example
  int64_t dead_links = 0;

  /// "2 files of other kinds (.gz 1, .md 1), 1 link to a folder that is read already"; empty if nothing was left out.
  std::string left_out() const;
};

/// Regular files with one of the extensions (".txt"), recursively; links are followed, and each folder is read once.
/// Files with the name `companion` belong to them and are not left out. Error(io) if a folder cannot be read.
FolderFiles files_below(const std::filesystem::path& folder, const std::vector<std::string>& extensions,
                        const std::string& companion = "");

}  // namespace pgolf
