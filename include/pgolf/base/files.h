// Files: mapping, whole reads, atomic writes, globbing. Every failure is an Error that names the path.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pgolf {

using Bytes = std::vector<std::byte>;
using BytesView = std::span<const std::byte>;

BytesView as_bytes(std::string_view text);

/// A whole file mapped read-only. Movable; the mapping lives as long as the object.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::filesystem::path& path() const { return path_; }
  BytesView bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  std::filesystem::path path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

/// Throws Error(bad_input) if it cannot be opened or is no regular file, or larger than max_bytes (0 = no limit).
Bytes read_bytes(const std::filesystem::path& path, size_t max_bytes = 0);
std::string read_text(const std::filesystem::path& path, size_t max_bytes = 0);

/// A file that is either complete or absent: written under a temporary name next to the target, then
/// flushed to disk and renamed over it by commit(). Without commit() the temporary file is removed; that of a writer that was
/// killed, when the next one of this target begins. A symbolic link stays, and what it leads to is written; a device or pipe is
/// written directly, from the first write() on.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(BytesView bytes);
  /// Overwrites earlier bytes (a header that is known only at the end).
  void write_at(size_t offset, BytesView bytes);
  void commit();

 private:
  const std::filesystem::path& written_path() const { return temporary_.empty() ? target_ : temporary_; }

  std::filesystem::path target_;
  std::filesystem::path temporary_;  ///< empty if the target is written directly
  int fd_ = -1;
};

void write_atomic(const std::filesystem::path& path, BytesView bytes);
void write_atomic(const std::filesystem::path& path, std::string_view text);

/// Whether a file's name is a temporary one of AtomicFile.
bool is_temporary(const std::filesystem::path& path);

/// Creates a folder and those above it, if they do not exist. Error(io) if that is not possible.
void create_folders(const std::filesystem::path& path);

/// Adds text at a file's end: all of it, or with Error(io) nothing.
void append_whole(const std::filesystem::path& path, std::string_view text);

/// The paths in a folder whose names match a shell pattern (*, ?, [...]), in byte-wise lexical order as Python's
/// sorted(glob.glob(...)) gives them. Only the name, all after the last slash, is a pattern: a folder may be called "run[1]". So
/// may a file: a name that does not match itself stands for the file called so, if there is one. Empty if the folder does not
/// exist; Error(bad_input) if it cannot be listed.
std::vector<std::filesystem::path> glob_sorted(const std::string& pattern);

/// "a folder", "a pipe", "a device", "a link to nothing", ...; empty for a regular file and for what does not exist.
std::string irregular_kind(const std::filesystem::path& path);

/// The folder of the running executable.
std::filesystem::path program_folder();

}  // namespace pgolf
