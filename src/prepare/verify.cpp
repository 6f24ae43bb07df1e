#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/base/log.h"
#include "pgolf/data/byte_check.h"
#include "pgolf/data/document_index.h"
#include "pgolf/data/shard.h"
#include "pgolf/data/shard_manifest.h"
#include "pgolf/data/tokenizer.h"
#include "pgolf/prepare/folder_files.h"
#include "pgolf/prepare/prepare.h"

namespace pgolf {
namespace fs = std::filesystem;
namespace {

constexpr int kUpstreamsBosId = 1;

struct Facts {
  int64_t tokens = 0;
  int64_t documents = 0;
  TargetBytes bytes;
};

/// The BOS of the shards in a folder if there is no tokenizer, and who says so.
struct Bos {
  int id = kUpstreamsBosId;
  std::string owner = "upstream's shards";
};

Bos bos_of(const fs::path& folder) {
  const auto manifest = read_manifest(folder);
  return manifest ? Bos{manifest->bos_id, manifest_path(folder).string()} : Bos{};
}

/// The end of a split's shards so far: the next shard goes on where the last one ended.
class SplitEnd {
 public:
  /// What the first token of a shard counts, which is no target in the shard alone.
  TargetBytes join(const ByteCheck& check, const fs::path& shard, std::span<const uint16_t> tokens) {
    const fs::path split = split_of(shard);
    if (split != split_) last_.clear();
    split_ = split;
    const TargetBytes bytes = last_.empty() ? TargetBytes{} : check.count_seam(last_, tokens);
    last_.insert(last_.end(), tokens.end() - std::min<ptrdiff_t>(kept, std::ssize(tokens)), tokens.end());
    last_.erase(last_.begin(), last_.end() - std::min<ptrdiff_t>(kept, std::ssize(last_)));
    return bytes;
  }
  void forget() { last_.clear(); }

 private:
  static constexpr ptrdiff_t kept = 8;  // more than a seam needs

  /// "data/fineweb_train" of "data/fineweb_train_000001.bin".
  static fs::path split_of(const fs::path& shard) {
    const std::string name = shard.stem().string();
    return shard.parent_path() / name.substr(0, name.rfind('_'));
  }

  fs::path split_;
  std::vector<uint16_t> last_;
};

std::vector<fs::path> shards_in(const std::vector<fs::path>& paths) {
  std::vector<fs::path> files;
  for (const auto& path : paths) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    auto found = files_below(path, {".bin"}, manifest_path("").filename());
    const auto unfinished = std::erase_if(
        found.files, [](const fs::path& file) { return file.parent_path().filename() == unfinished_shards("").filename(); });
    if (unfinished > 0)
      log::info(format("left out of %s: %zu shards of a prepare_data that was stopped", path.c_str(), unfinished));
    // Training would take these for shards.
    for (auto* not_files : {&found.irregular, &found.folders}) {
      found.files.insert(found.files.end(), not_files->begin(), not_files->end());
      not_files->clear();
    }
    std::ranges::sort(found.files, {}, [](const fs::path& file) { return file.native(); });
    const std::string rest = found.left_out();
    if (found.files.empty())
      throw Error(ExitCode::bad_input,
                  format("no .bin file in %s%s", path.c_str(), rest.empty() ? "" : (", only " + rest).c_str()));
    if (!rest.empty()) log::info(format("left out of %s: %s", path.c_str(), rest.c_str()));
    files.insert(files.end(), found.files.begin(), found.files.end());
  }
  if (const std::string repeated = remove_repeated(files); !repeated.empty()) log::warn(repeated);
  return files;
}

std::string describe(const std::string& name, const Facts& facts, std::optional<ByteCounting> counting,
                     const std::string& sha256) {
  std::string line =
      format("%s tokens:%s documents:%s", name.c_str(), with_commas(facts.tokens).c_str(), with_commas(facts.documents).c_str());
  if (counting) line += " bytes:" + with_commas(facts.bytes.counted(*counting));
  return line + " sha256:" + sha256;
}

}  // namespace

void verify_shards(const std::vector<fs::path>& paths, const std::optional<fs::path>& tokenizer_path,
                   ByteCounting byte_counting) {
  std::optional<Tokenizer> tokenizer;
  std::optional<ByteCheck> check;
  std::optional<ByteCounting> counting;
  if (tokenizer_path) {
    tokenizer.emplace(*tokenizer_path);
    check.emplace(*tokenizer);
    counting = byte_counting;
  }
  const auto files = shards_in(paths);
  require_finished(files);
  if (tokenizer) require_tokenizer_of_shards(files, *tokenizer);

  Facts total;
  Sha256 total_hash;
  size_t bad = 0;
  SplitEnd end;
  std::map<fs::path, int64_t> documents;  // by folder
  const auto bos_in = [&](const fs::path& folder) {
    return tokenizer ? Bos{tokenizer->bos_id(), tokenizer->path().string()} : bos_of(folder);
  };
  for (const auto& file : files) {
    try {
      const Shard shard(file);
      const auto tokens = shard.tokens();
      Facts facts;
      facts.tokens = static_cast<int64_t>(tokens.size());
      facts.documents = std::ranges::count(tokens, bos_in(file.parent_path()).id);
      if (tokenizer) {
        shard.check_token_range(tokenizer->vocab_size());
        facts.bytes = check->count(tokens);
        total.bytes += end.join(*check, file, tokens);
      }
      total_hash.update(std::as_bytes(tokens));
      log::info(describe(file.string(), facts, counting, sha256_hex(std::as_bytes(tokens))));
      documents[file.parent_path()] += facts.documents;
      total.tokens += facts.tokens;
      total.documents += facts.documents;
      total.bytes += facts.bytes;
    } catch (const Error& e) {
      ++bad;
      end.forget();
      log::info(format("BAD %s", e.what()));
    }
  }
  log::info(describe(format("total files:%zu", files.size() - bad), total, counting, total_hash.hex()));
  for (const auto& [folder, count] : documents) {
    if (count > 0) continue;
    const Bos bos = bos_in(folder);
    log::warn(missing_bos_warning("the tokens in " + (folder.empty() ? "." : folder.string()), bos.id, bos.owner));
  }
  if (check) {
    const std::string warning = check->warning(total.bytes, byte_counting);
    if (!warning.empty()) log::warn(warning);
  }
  if (bad > 0) {
    throw Error(ExitCode::bad_input, format("%zu of %zu files are bad", bad, files.size()), "see the lines that begin with BAD");
  }
}

void inspect_shard(const fs::path& path, const fs::path& tokenizer_path, int64_t offset, int64_t count) {
  const Shard shard(path);
  const Tokenizer tokenizer(tokenizer_path);
  require_tokenizer_of_shards({path}, tokenizer);
  const auto all = shard.tokens();
  const auto size = static_cast<int64_t>(all.size());
  if (offset >= size) {
    throw Error(ExitCode::usage, format("--offset %lld is past the end of the %lld tokens of %s", static_cast<long long>(offset),
                                        static_cast<long long>(size), path.c_str()));
  }
  const int64_t end = offset + std::min(count, size - offset);
  shard.check_token_range(tokenizer.vocab_size(), static_cast<size_t>(offset), static_cast<size_t>(end));
  const auto starts = document_starts(all, tokenizer.bos_id());
  log::info(format("%s: version %d, %s tokens, %s documents, %s", path.c_str(), kShardVersion, with_commas(size).c_str(),
                   with_commas(static_cast<int64_t>(starts.size())).c_str(),
                   human_bytes(static_cast<double>(kShardHeaderBytes + all.size_bytes())).c_str()));

  // The range, split where documents begin.
  auto next_start = std::upper_bound(starts.begin(), starts.end(), offset);
  for (int64_t begin = offset; begin < end;) {
    const int64_t stop = next_start == starts.end() ? end : std::min(end, *next_start);
    const auto part = all.subspan(static_cast<size_t>(begin), static_cast<size_t>(stop - begin));
    const int64_t document = next_start - starts.begin();  // 0: started in an earlier shard
    log::info(format("[token %lld, document %lld] ", static_cast<long long>(begin), static_cast<long long>(document)) +
              tokenizer.decode({part.begin(), part.end()}));  // which may hold NUL
    begin = stop;
    if (next_start != starts.end()) ++next_start;
  }
}

}  // namespace pgolf
