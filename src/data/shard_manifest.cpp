#include "pgolf/data/shard_manifest.h"

#include <nlohmann/json.hpp>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/data/shard.h"

namespace pgolf {
namespace fs = std::filesystem;
namespace {

constexpr size_t kLargestManifest = size_t{1} << 16;

}  // namespace

fs::path manifest_path(const fs::path& folder) {
  return folder / "shards.json";
}

ShardManifest manifest_of(const Tokenizer& tokenizer) {
  return {tokenizer.fingerprint(), tokenizer.required_bos_id()};
}

void write_manifest(const fs::path& folder, const ShardManifest& manifest) {
  const nlohmann::ordered_json content{{"tokenizer", manifest.tokenizer}, {"bos_id", manifest.bos_id}};
  write_atomic(manifest_path(folder), content.dump() + "\n");
}

std::optional<ShardManifest> read_manifest(const fs::path& folder) {
  const fs::path path = manifest_path(folder);
  std::error_code none;  // what cannot be inspected is not there; a link is, wherever it leads
  if (!fs::exists(fs::symlink_status(path, none))) return std::nullopt;
  const auto content = nlohmann::json::parse(read_text(path, kLargestManifest), nullptr, /*allow_exceptions=*/false);
  const auto field = [&](const char* name) {
    return content.is_object() ? content.value(name, nlohmann::json()) : nlohmann::json();
  };
  const auto tokenizer = field("tokenizer"), bos_id = field("bos_id");
  const int64_t bos = bos_id.is_number_integer() ? bos_id.get<int64_t>() : -1;
  if (!tokenizer.is_string() || bos < 0 || bos >= kMaxVocabSize) {
    throw Error(ExitCode::bad_input, format("%s does not say what the shards next to it were made with", path.c_str()),
                "prepare_data tokenize writes it; without it, shards are taken for the tokenizer's");
  }
  return ShardManifest{tokenizer.get<std::string>(), static_cast<int>(bos)};
}

void require_tokenizer_of_shards(const std::vector<fs::path>& shards, const Tokenizer& tokenizer) {
  for (const auto& folder : folders_of(shards)) {
    const auto manifest = read_manifest(folder);
    if (!manifest) continue;
    const fs::path path = manifest_path(folder);
    tokenizer.require_fingerprint(manifest->tokenizer, "the shards next to " + path.string());
    if (manifest->bos_id == tokenizer.bos_id()) continue;
    throw Error(ExitCode::bad_input,
                format("%s says that BOS is %d, but that of %s, whose fingerprint it has, is %d", path.c_str(), manifest->bos_id,
                       tokenizer.path().c_str(), tokenizer.bos_id()),
                "it was changed: make the shards again with prepare_data tokenize, or remove it if the tokenizer is theirs");
  }
}

}  // namespace pgolf
