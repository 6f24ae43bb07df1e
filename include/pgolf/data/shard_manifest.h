// shards.json, which prepare_data writes next to shards: what their ids stand for. Folders without one (upstream's) are as good.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/data/tokenizer.h"

namespace pgolf {

struct ShardManifest {
  std::string tokenizer;  ///< its fingerprint
  int bos_id = 0;
};

std::filesystem::path manifest_path(const std::filesystem::path& folder);

/// Error(bad_input) if the tokenizer has no BOS.
ShardManifest manifest_of(const Tokenizer& tokenizer);
void write_manifest(const std::filesystem::path& folder, const ShardManifest& manifest);
/// nullopt if the folder has none. Error(bad_input) if it is not what write_manifest() writes, or a link to nothing.
std::optional<ShardManifest> read_manifest(const std::filesystem::path& folder);

/// Error(usage), naming the folder, unless the tokenizer has the pieces of every manifest next to these shards; Error(bad_input)
/// if one has its pieces but another BOS.
void require_tokenizer_of_shards(const std::vector<std::filesystem::path>& shards, const Tokenizer& tokenizer);

}  // namespace pgolf
