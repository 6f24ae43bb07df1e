// Documents for training tokenizers and writing shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/base/files.h"

namespace pgolf {

/// Reads documents one after another, in the order of the inputs. An input is a .txt file (one document, none if it is empty), a
/// .jsonl file (one document per line, in the field "text"; blank lines are skipped), or a folder of such files. A byte order
/// mark is no text. Logs what is left out of a folder, empty .txt files, and files that are there twice and read once.
class DocumentReader {
 public:
  /// Error(bad_input) if an input is missing, cannot be listed, is a pipe or the like, or has another extension, or if there are
  /// no files.
  explicit DocumentReader(const std::vector<std::filesystem::path>& inputs);

  /// False at the end. Error(bad_input) that says where and why: a line that is not such an object or longer than 256 MiB, a
  /// .txt file that is not UTF-8, a file that is something else (UTF-16, a Git LFS pointer, ...).
  bool next(std::string& text);
  /// Where the last document is: "a.txt", "b.jsonl:7".
  std::string place() const;
  /// Back to the first document.
  void rewind();

  size_t file_count() const { return files_.size(); }
  int64_t total_bytes() const { return total_bytes_; }  ///< sizes of all files
  int64_t bytes_read() const { return bytes_read_; }

 private:
  bool next_line(std::string& text);
  /// The bytes of a byte order mark at a file's beginning. The first one is logged.
  size_t skipped_mark(std::string_view text, const std::filesystem::path& file);

  std::vector<std::filesystem::path> files_;
  size_t next_file_ = 0;
  std::optional<MappedFile> lines_;  // the .jsonl file being read
  size_t offset_ = 0;                // in lines_
  int64_t line_number_ = 0;
  int64_t total_bytes_ = 0;
  int64_t bytes_read_ = 0;
  bool told_of_mark_ = false;
};

/// Logs where the last document is if it has so many bytes that encoding it takes long and much memory.
void announce_if_large(const DocumentReader& reader, size_t bytes);

}  // namespace pgolf
