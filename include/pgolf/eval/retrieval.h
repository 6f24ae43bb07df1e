// Two synthetic tasks that can be solved only by looking back over a given distance.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pgolf/data/tokenizer.h"
#include "pgolf/model/gpt.h"

namespace pgolf {

/// Sequences and their scored targets, those of the last positions.
struct RetrievalItems {
  at::Tensor inputs;   ///< [items, T] int64
  at::Tensor targets;  ///< [items, scored] int64, of the positions T - scored .. T-1
};

/// Distances of induction within seq_len tokens: 8, 16, 32, ... up to seq_len / 2.
std::vector<int64_t> induction_distances(int64_t seq_len);
/// Distances of a passkey within seq_len tokens: 8, 16, 32, ... up to seq_len - 8.
std::vector<int64_t> passkey_distances(int64_t seq_len);

/// Ids for random sequences: all but control, byte, unknown and unused pieces.
/// Error(bad_input) if there are none.
std::vector<int64_t> ordinary_tokens(const Tokenizer& tokenizer);

/// BOS r_1 .. r_n r_1 .. r_n, where n is the distance and the r are drawn uniformly from tokens. r_2 .. r_n of the second copy
/// are scored: each occurred n positions earlier, after the same token. The copy's first token cannot be predicted.
/// Drawn with std::mt19937_64 only, so results are portable. T = 2 distance.
RetrievalItems induction_items(std::span<const int64_t> tokens, int bos_id, int64_t distance, int64_t items, uint64_t seed);

/// Windows of text whose tokens are overwritten in two places: at the end by a marker of 4 tokens and a key of 4, and by the same
/// eight `distance` tokens before that. Marker and key are drawn from tokens for every item. The key at the end is scored.
/// text: at least seq_len + 1 tokens; the items' windows are evenly spaced in it. T = seq_len.
RetrievalItems passkey_items(std::span<const uint16_t> text, std::span<const int64_t> tokens, int64_t seq_len, int64_t distance,
                             int64_t items, uint64_t seed);

struct RetrievalScore {
  int64_t items = 0;
  double accuracy = 0;        ///< fraction of the scored tokens that have the largest logit
  double standard_error = 0;  ///< of accuracy: sample deviation over items / sqrt(items); NaN for one item
  double loss = 0;            ///< mean cross-entropy of the scored tokens, nats
};

/// logits [items, scored, V] float32 or bfloat16, targets [items, scored] int64.
RetrievalScore score_retrieval(const at::Tensor& logits, const at::Tensor& targets);

/// The same for the model's logits, batch_items sequences per forward pass.
RetrievalScore run_retrieval(Gpt& model, const RetrievalItems& items, int64_t batch_items, const at::Device& device);

}  // namespace pgolf
