#include "pgolf/data/shard.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "pgolf/base/error.h"
#include "pgolf/base/foreign_kind.h"
#include "pgolf/base/format.h"
#include "pgolf/data/shard_manifest.h"

namespace pgolf {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little, "shards are mapped as stored: little-endian");

constexpr size_t kBufferedTokens = size_t{1} << 19;

using Header = std::array<int32_t, kShardHeaderBytes / sizeof(int32_t)>;

[[noreturn]] void reject(const std::filesystem::path& path, const std::string& fault) {
  throw Error(ExitCode::bad_input, format("%s: %s", path.c_str(), fault.c_str()),
              "download it again (scripts/download_fineweb.sh) or make new shards (prepare_data tokenize)");
}

std::span<const uint16_t> checked_tokens(const MappedFile& file) {
  const BytesView bytes = file.bytes();
  if (bytes.empty()) reject(file.path(), "the file is empty");
  int32_t magic = 0;
  std::memcpy(&magic, bytes.data(), std::min(bytes.size(), sizeof magic));
  if (magic != kShardMagic && !describe_foreign(bytes).empty()) reject(file.path(), "not a token shard" + foreign_clause(bytes));
  if (bytes.size() < kShardHeaderBytes) {
    reject(file.path(), format("truncated: %zu bytes, but the header alone takes %zu", bytes.size(), kShardHeaderBytes));
  }
  Header header;
  std::memcpy(header.data(), bytes.data(), kShardHeaderBytes);
  if (header[0] != kShardMagic) {
    reject(file.path(), format("not a token shard: it starts with %d instead of %d", header[0], kShardMagic));
  }
  if (header[1] != kShardVersion) {
    reject(file.path(), format("shard version %d; only version %d is supported", header[1], kShardVersion));
  }
  if (header[2] <= 0) reject(file.path(), format("the header declares %d tokens", header[2]));
  const size_t count = static_cast<size_t>(header[2]);
  const size_t expected = kShardHeaderBytes + count * sizeof(uint16_t);
  if (bytes.size() != expected) {
    reject(file.path(), format("%s: the header declares %d tokens, which need %zu bytes, but the file has %zu",
                               bytes.size() < expected ? "truncated" : "too long", header[2], expected, bytes.size()));
  }
  return {reinterpret_cast<const uint16_t*>(bytes.data() + kShardHeaderBytes), count};
}

}  // namespace

Shard::Shard(const std::filesystem::path& path) : file_(path), tokens_(checked_tokens(file_)) {}

void Shard::check_token_range(int vocab_size, size_t begin, size_t end) const {
  const auto range = tokens_.subspan(begin, end - begin);
  const auto bad = std::find_if(range.begin(), range.end(), [vocab_size](uint16_t id) { return id >= vocab_size; });
  if (bad == range.end()) return;
  throw Error(ExitCode::bad_input,
              format("%s: token %zu has id %d, but the vocabulary has %d tokens", path().c_str(),
                     begin + static_cast<size_t>(bad - range.begin()), *bad, vocab_size),
              "the shard was made with a different tokenizer or is damaged; check it with prepare_data verify");
}

ShardWriter::ShardWriter(const std::filesystem::path& path) : path_(path), file_(path) {
  const Header placeholder{};
  file_.write(std::as_bytes(std::span(placeholder)));
  buffer_.reserve(kBufferedTokens);
}

void ShardWriter::append(std::span<const uint16_t> tokens) {
  if (token_count_ + static_cast<int64_t>(tokens.size()) > std::numeric_limits<int32_t>::max()) {
    throw Error(ExitCode::usage,
                format("%s: a shard holds at most %d tokens", path_.c_str(), std::numeric_limits<int32_t>::max()));
  }
  token_count_ += static_cast<int64_t>(tokens.size());
  while (!tokens.empty()) {
    const size_t n = std::min(tokens.size(), kBufferedTokens - buffer_.size());
    buffer_.insert(buffer_.end(), tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(n));
    tokens = tokens.subspan(n);
    if (buffer_.size() == kBufferedTokens) flush();
  }
}

void ShardWriter::flush() {
  file_.write(std::as_bytes(std::span(buffer_)));
  buffer_.clear();
}

void ShardWriter::commit() {
  flush();
  const Header header{kShardMagic, kShardVersion, static_cast<int32_t>(token_count_)};
  file_.write_at(0, std::as_bytes(std::span(header)));
  file_.commit();
}

std::set<fs::path> folders_of(const std::vector<fs::path>& shards) {
  std::set<fs::path> folders;
  for (const auto& shard : shards) folders.insert(shard.parent_path());
  return folders;
}

fs::path unfinished_shards(const fs::path& folder) {
  return folder / ".prepare_data.partial";
}

void require_finished(const std::vector<fs::path>& shards) {
  for (const auto& folder : folders_of(shards)) {
    std::error_code none;
    if (!fs::exists(manifest_path(unfinished_shards(folder)), none)) continue;
    throw Error(
        ExitCode::bad_input,
        format("shards may be missing in %s: prepare_data was stopped, or is not done, putting them there", folder.c_str()),
        "run prepare_data tokenize again, with --force");
  }
}

std::vector<fs::path> find_shards(const std::string& pattern) {
  auto files = glob_sorted(pattern);
  if (files.empty()) {
    std::error_code none;
    const fs::path folder = fs::path(pattern).parent_path();
    const bool absent = !folder.empty() && !fs::exists(folder, none);
    throw Error(
        ExitCode::bad_input,
        format("no token shards match %s%s%s", pattern.c_str(), absent ? ": there is no folder " : "",
               absent ? folder.c_str() : ""),
        "download FineWeb with scripts/download_fineweb.sh, or make shards from your own text with prepare_data tokenize");
  }
  require_finished(files);
  return files;
}

}  // namespace pgolf
