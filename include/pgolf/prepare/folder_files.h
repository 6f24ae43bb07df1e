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
  int64_t dead_links = 0;                    ///< but for those in `irregular`
  /// What has one of the extensions but is no regular file: pipes, devices, links to nothing.
  std::vector<std::filesystem::path> irregular;
  std::vector<std::filesystem::path> folders;  ///< with one of the extensions; what is in them is in files

  /// "2 files of other kinds (.gz 1, .md 1), 1 link to a folder that is read already"; empty if nothing was left out.
  std::string left_out() const;
};

/// Regular files with one of the extensions (".txt"), recursively; links are followed, and each folder is read once.
/// Files with the name `companion` belong to them and are not left out. Error(bad_input) if a folder
/// cannot be listed.
FolderFiles files_below(const std::filesystem::path& folder, const std::vector<std::string>& extensions,
                        const std::string& companion = "");

/// Removes each file that is an earlier one again, given twice or reached by a link. "2 files are given again, and read only
/// once: b.txt is a.txt, ..."; empty if there are none.
std::string remove_repeated(std::vector<std::filesystem::path>& files);

}  // namespace pgolf
