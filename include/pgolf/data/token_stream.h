// An endless, contiguous stream of tokens over the shards of a split.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pgolf/data/shard.h"

namespace pgolf {

/// A position in a TokenStream (of other loaders: what they say). position counts tokens inside the file; it equals the file's
/// token count when the last take() ended exactly at the file's end, because the next file is opened only by the next take().
struct TokenCursor {
  int64_t file_index = 0;
  int64_t position = 0;

  bool operator==(const TokenCursor&) const = default;
};

/// Reads the shards that match a pattern in lexical order and wraps around forever: the same tokens and cursor
/// as upstream's TokenStream. One shard is mapped at a time.
class TokenStream {
 public:
  /// Checks every shard's header and size. Ids >= vocab_size are an Error(bad_input): of the first shard here, since shards of
  /// another tokenizer have some in the first, of the others when read.
  explicit TokenStream(const std::string& pattern, int vocab_size = kMaxVocabSize);

  /// Fills out with the next out.size() tokens. After an Error the cursor has not moved.
  void take(std::span<uint16_t> out);

  TokenCursor cursor() const { return cursor_; }
  /// Error(bad_input) if the cursor lies outside these shards.
  void seek(TokenCursor cursor);

  const std::vector<std::filesystem::path>& files() const { return files_; }
  int64_t total_tokens() const { return total_tokens_; }

 private:
  void open(int64_t file_index);

  std::vector<std::filesystem::path> files_;
  std::vector<int64_t> token_counts_;
  int64_t total_tokens_ = 0;
  int vocab_size_;
  std::optional<Shard> shard_;  // files_[open_index_]
  int64_t open_index_ = -1;
  TokenCursor cursor_;
};

}  // namespace pgolf
