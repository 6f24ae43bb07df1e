// Shard files: 256 little-endian int32 of header (20240520, 1, token count, zeros), then uint16 tokens.
// The format of parameter-golf's data/download_hf_docs_and_tokenize.py (write_datafile).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "pgolf/base/files.h"

namespace pgolf {

inline constexpr int32_t kShardMagic = 20240520;
inline constexpr int32_t kShardVersion = 1;
inline constexpr size_t kShardHeaderBytes = 1024;
/// Tokens are uint16, so this is the largest vocabulary; as a vocab_size argument it accepts every id.
inline constexpr int kMaxVocabSize = 65'536;

/// One shard file, mapped read-only. The tokens are never copied.
class Shard {
 public:
  /// Checks magic, version and that the size is exactly 1024 + 2 * token count. A file that is missing, empty,
  /// truncated, too long or without tokens is an Error(bad_input) that says which.
  explicit Shard(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::span<const uint16_t> tokens() const { return tokens_; }

  /// Error(bad_input) that names file, position and id of the first token >= vocab_size.
  void check_token_range(int vocab_size) const { check_token_range(vocab_size, 0, tokens_.size()); }
  /// The same for the positions [begin, end).
  void check_token_range(int vocab_size, size_t begin, size_t end) const;

 private:
  MappedFile file_;
  std::span<const uint16_t> tokens_;
};

/// Streams tokens into a shard; nothing appears at path before commit().
class ShardWriter {
 public:
  explicit ShardWriter(const std::filesystem::path& path);

  void append(std::span<const uint16_t> tokens);
  int64_t token_count() const { return token_count_; }
  /// Writes the header and renames the file into place. Call once.
  void commit();

 private:
  void flush();

  std::filesystem::path path_;
  AtomicFile file_;
  std::vector<uint16_t> buffer_;
  int64_t token_count_ = 0;
};

/// Where prepare_data keeps a folder's shards and their manifest until all are written. The manifest leaves it last.
std::filesystem::path unfinished_shards(const std::filesystem::path& folder);
/// Error(bad_input), naming the folder, if prepare_data was stopped while it put shards next to these.
void require_finished(const std::vector<std::filesystem::path>& shards);

std::set<std::filesystem::path> folders_of(const std::vector<std::filesystem::path>& shards);

/// The files whose names match a shell pattern (glob_sorted), in lexical order; Error(bad_input) with a hint if there are none,
/// or as above.
std::vector<std::filesystem::path> find_shards(const std::string& pattern);

}  // namespace pgolf
