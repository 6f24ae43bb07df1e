// Document boundaries: each document in a shard starts with BOS, which occurs nowhere else.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pgolf {

inline constexpr uint16_t kBosId = 1;

/// Positions of BOS in tokens, ascending. Tokens before the first one belong to a document of an earlier shard.
inline std::vector<int64_t> document_starts(std::span<const uint16_t> tokens, uint16_t bos_id = kBosId) {
  std::vector<int64_t> starts;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] == bos_id) starts.push_back(static_cast<int64_t>(i));
  }
  return starts;
}

}  // namespace pgolf
