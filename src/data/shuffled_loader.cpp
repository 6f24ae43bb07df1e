#include "pgolf/data/shuffled_loader.h"

#include <algorithm>
#include <numeric>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

std::vector<Shard> shards_of_rank(const std::vector<std::filesystem::path>& files, int rank, int world_size) {
  std::vector<Shard> shards;
  for (size_t i = static_cast<size_t>(rank); i < files.size(); i += static_cast<size_t>(world_size))
    shards.emplace_back(files[i]);
  if (shards.empty()) {
    throw Error(ExitCode::bad_input,
                format("process %d of %d has no training shard of its own: there are %zu next to %s", rank, world_size,
                       files.size(), files.front().c_str()),
                "with LOADER=shuffled each process needs at least one; start fewer processes or use more shards");
  }
  return shards;
}

std::vector<int64_t> lengths(const std::vector<Shard>& shards, int seq_len) {
  std::vector<int64_t> tokens;
  for (const Shard& shard : shards) tokens.push_back(static_cast<int64_t>(shard.tokens().size()));
  const int64_t longest = *std::ranges::max_element(tokens);
  if (longest <= seq_len) {
    throw Error(ExitCode::bad_input,
                format("%s and the other shards of its process are too short for TRAIN_SEQ_LEN=%d: the longest has %lld tokens",
                       shards.front().path().c_str(), seq_len, static_cast<long long>(longest)),
                "decrease TRAIN_SEQ_LEN or use longer shards");
  }
  return tokens;
}

}  // namespace

WindowOrder::WindowOrder(std::vector<int64_t> file_tokens, int seq_len, uint32_t seed)
    : seq_len_(seq_len), seed_(seed), random_(seed) {
  for (const int64_t tokens : file_tokens) files_.push_back({tokens});
  cut_files();
}

void WindowOrder::cut_files() {
  left_.clear();
  for (File& file : files_) {
    const int64_t phases = std::clamp<int64_t>(file.tokens - seq_len_, 1, seq_len_);
    file.phase = random_.below(static_cast<uint32_t>(phases));
    file.windows = random_.permutation(static_cast<uint32_t>((file.tokens - 1 - file.phase) / seq_len_));
    left_.push_back(static_cast<double>(file.windows.size()));
  }
  total_left_ = std::accumulate(left_.begin(), left_.end(), 0.0);
}

WindowOrder::Window WindowOrder::next() {
  if (total_left_ == 0) cut_files();
  const size_t chosen = random_.choice(left_, total_left_);
  File& file = files_[chosen];
  const int64_t start = file.phase + int64_t{file.windows.back()} * seq_len_;
  file.windows.pop_back();
  --left_[chosen];
  --total_left_;
  ++taken_;
  return {chosen, start};
}

void WindowOrder::seek(int64_t taken) {
  random_ = NumpyRandom(seed_);
  taken_ = 0;
  cut_files();
  while (taken - taken_ > static_cast<int64_t>(total_left_)) {
    // A window costs one number whichever it is.
    for (double i = 0; i < total_left_; ++i) random_.uniform();
    taken_ += static_cast<int64_t>(total_left_);
    cut_files();
  }
  while (taken_ < taken) next();
}

ShuffledLoader::ShuffledLoader(const std::string& pattern, int seq_len, int rank, int world_size, int vocab_size)
    : ShuffledLoader(find_shards(pattern), seq_len, rank, world_size, vocab_size) {}

ShuffledLoader::ShuffledLoader(const std::vector<std::filesystem::path>& files, int seq_len, int rank, int world_size,
                               int vocab_size)
    : file_count_(files.size()),
      shards_(shards_of_rank(files, rank, world_size)),
      seq_len_(seq_len),
      world_size_(world_size),
      vocab_size_(vocab_size),
      order_(lengths(shards_, seq_len), seq_len, static_cast<uint32_t>(rank)) {
  shards_.front().check_token_range(vocab_size);
}

std::span<const int64_t> ShuffledLoader::next(int64_t global_tokens, int grad_accum_steps) {
  const int64_t windows = global_tokens / (static_cast<int64_t>(world_size_) * grad_accum_steps) / seq_len_;
  if (windows < 1) {
    throw Error(ExitCode::usage,
                format("a batch of %lld tokens is too small for %d ranks and %d micro-steps of windows of %d tokens",
                       static_cast<long long>(global_tokens), world_size_, grad_accum_steps, seq_len_),
                "increase TRAIN_BATCH_TOKENS");
  }
  tokens_.clear();
  for (int64_t i = 0; i < windows; ++i) {
    const auto [file, start] = order_.next();
    const auto begin = static_cast<size_t>(start), end = begin + static_cast<size_t>(seq_len_) + 1;
    shards_[file].check_token_range(vocab_size_, begin, end);
    const auto window = shards_[file].tokens().subspan(begin, end - begin);
    tokens_.insert(tokens_.end(), window.begin(), window.end());
  }
  return tokens_;
}

void ShuffledLoader::seek(TokenCursor cursor) {
  if (cursor.file_index != 0 || cursor.position < 0) {
    throw Error(ExitCode::bad_input,
                format("token %lld of shard %lld is not a place in shuffled windows", static_cast<long long>(cursor.position),
                       static_cast<long long>(cursor.file_index)),
                "the checkpoint was saved by a run with another LOADER");
  }
  order_.seek(cursor.position);
}

}  // namespace pgolf
