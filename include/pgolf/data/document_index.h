// Document boundaries: each document in a shard starts with BOS, which occurs nowhere else.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pgolf {

/// Positions of BOS in tokens, ascending. Tokens before the first one belong to a document of an earlier shard. bos_id: -1 if the
/// tokenizer has none.
inline std::vector<int64_t> document_starts(std::span<const uint16_t> tokens, int bos_id) {
  std::vector<int64_t> starts;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] == bos_id) starts.push_back(static_cast<int64_t>(i));
  }
  return starts;
}

}  // namespace pgolf
