#include "pgolf/data/validation_set.h"

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {

ValidationSet::ValidationSet(const std::string& pattern, int seq_len, int64_t eval_tokens, int vocab_size) {
  const auto files = find_shards(pattern);
  std::vector<Shard> shards;
  int64_t total = 0;
  for (const auto& file : files) total += static_cast<int64_t>(shards.emplace_back(file).tokens().size());

  sequences_ = (total - 1) / seq_len;
  if (sequences_ == 0) {
    throw Error(ExitCode::bad_input,
                format("the validation split is too short for sequences of %d tokens: %s has %lld tokens, one sequence needs %d",
                       seq_len, pattern.c_str(), static_cast<long long>(total), seq_len + 1),
                "use shorter sequences, or more validation documents (prepare_data tokenize --val-docs)");
  }
  if (eval_tokens != 0) {
    if (eval_tokens < seq_len) {
      throw Error(ExitCode::usage,
                  format("EVAL_TOKENS=%lld is less than one sequence of %d tokens", static_cast<long long>(eval_tokens), seq_len),
                  "set it to 0 for all tokens, or to at least one sequence");
    }
    sequences_ = std::min(sequences_, eval_tokens / seq_len);
  }
  used_ = static_cast<size_t>(sequences_) * static_cast<size_t>(seq_len) + 1;

  size_t missing = used_;
  for (const auto& shard : shards) {
    const size_t n = std::min(missing, shard.tokens().size());
    shard.check_token_range(vocab_size, 0, n);
    if (shards.size() > 1)
      joined_.insert(joined_.end(), shard.tokens().begin(), shard.tokens().begin() + static_cast<ptrdiff_t>(n));
    missing -= n;
  }
  if (shards.size() == 1) mapped_.emplace(std::move(shards.front()));
}

}  // namespace pgolf
