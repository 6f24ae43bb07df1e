#include "pgolf/data/token_stream.h"

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {

TokenStream::TokenStream(const std::string& pattern, int vocab_size) : files_(find_shards(pattern)), vocab_size_(vocab_size) {
  for (const auto& file : files_) {
    token_counts_.push_back(static_cast<int64_t>(Shard(file).tokens().size()));
    total_tokens_ += token_counts_.back();
  }
  open(0);
  shard_->check_token_range(vocab_size_);
}

void TokenStream::open(int64_t file_index) {
  if (file_index == open_index_) return;
  Shard shard(files_[static_cast<size_t>(file_index)]);
  if (static_cast<int64_t>(shard.tokens().size()) != token_counts_[static_cast<size_t>(file_index)]) {
    throw Error(ExitCode::bad_input, format("%s changed during the run", shard.path().c_str()),
                "do not modify shards during a run");
  }
  shard_.emplace(std::move(shard));
  open_index_ = file_index;
}

void TokenStream::take(std::span<uint16_t> out) {
  TokenCursor at = cursor_;
  while (!out.empty()) {
    const int64_t available = token_counts_[static_cast<size_t>(at.file_index)] - at.position;
    if (available == 0) {
      at = {(at.file_index + 1) % static_cast<int64_t>(files_.size()), 0};
      continue;
    }
    open(at.file_index);
    const size_t begin = static_cast<size_t>(at.position);
    const size_t n = std::min(out.size(), static_cast<size_t>(available));
    shard_->check_token_range(vocab_size_, begin, begin + n);
    std::ranges::copy(shard_->tokens().subspan(begin, n), out.begin());
    out = out.subspan(n);
    at.position += static_cast<int64_t>(n);
  }
  cursor_ = at;
}

void TokenStream::seek(TokenCursor cursor) {
  const bool file_exists = cursor.file_index >= 0 && cursor.file_index < static_cast<int64_t>(files_.size());
  if (!file_exists || cursor.position < 0 || cursor.position > token_counts_[static_cast<size_t>(cursor.file_index)]) {
    throw Error(
        ExitCode::bad_input,
        format("token %lld of shard %lld does not exist in the %zu shards next to %s", static_cast<long long>(cursor.position),
               static_cast<long long>(cursor.file_index), files_.size(), files_.front().c_str()),
        "the shards have changed since the checkpoint was saved");
  }
  cursor_ = cursor;
}

}  // namespace pgolf
