// Documents for training tokenizers and writing shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/base/files.h"

namespace pgolf {

/// Creates a folder and its parents; Error(io) on failure.
void create_folders(const std::filesystem::path& folder);

/// Reads documents one after another, in the order of the inputs. An input is a .txt file (one document), a .jsonl
/// file (one document per line, in the field "text"; blank lines are skipped), or a folder of such files;
/// what is left out of a folder is logged.
class DocumentReader {
 public:
  /// Error(bad_input) if an input is missing or has another extension, or if there are no files.
  explicit DocumentReader(const std::vector<std::filesystem::path>& inputs);

  /// False at the end. Error(bad_input) that says where and why: a line that is not such an object or longer than 256 MiB, a
  /// .txt file that is not UTF-8, a file that is something else (UTF-16, a Git LFS pointer, ...).
  bool next(std::string& text);

  size_t file_count() const { return files_.size(); }
  int64_t total_bytes() const { return total_bytes_; }  ///< sizes of all files
  int64_t bytes_read() const { return bytes_read_; }

 private:
  bool next_line(std::string& text);

  std::vector<std::filesystem::path> files_;
  size_t next_file_ = 0;
  std::optional<MappedFile> lines_;  // the .jsonl file being read
  size_t offset_ = 0;                // in lines_
  int64_t line_number_ = 0;
  int64_t total_bytes_ = 0;
  int64_t bytes_read_ = 0;
};

}  // namespace pgolf
