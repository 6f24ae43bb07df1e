// Log-probabilities of given text. Everything that reports log-probabilities uses these functions, so that results agree: each
// text gets its own forward pass, and its numbers do not depend on other texts.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "pgolf/data/tokenizer.h"
#include "pgolf/model/gpt.h"

namespace pgolf {

/// Model input for ids, for a model trained on windows of `context` tokens: BOS, as at the start of documents in training,
/// then the last context-1 ids. Ids that already begin with BOS and fit into the context are returned unchanged.
std::vector<int64_t> model_input(std::span<const int> ids, int context, int bos_id);

/// Log-softmax, in float32, of the logits after input[first], input[first + 1], ... input.back(): [input.size() - first, V] on
/// the CPU. Row i is for the token that follows input[first + i].
at::Tensor log_probabilities_after(Gpt& model, const std::vector<int64_t>& input, size_t first, const at::Device& device);

/// A text in two parts, the second of which is scored.
struct TextPair {
  std::vector<int> context, continuation;
};

/// As in lm-evaluation-harness for causal models: white space at the end of the context moves to the continuation, both are
/// encoded as one text, and the continuation is what follows the tokens of the context alone; empty if it is only spaces.
TextPair encode_pair(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation);

struct Likelihood {
  double log_prob = 0;     ///< sum of the tokens' log-probabilities, nats; float64, in order
  bool greedy = false;     ///< every token is the most likely one given those before it
  bool truncated = false;  ///< the beginning of the context was cut
};

/// Likelihoods of the continuations given their contexts. A continuation must have 1 to context-1 tokens, otherwise
/// Error(bad_input). progress: called with the number done; may be empty.
std::vector<Likelihood> likelihoods(Gpt& model, std::span<const TextPair> pairs, int context, int bos_id,
                                    const at::Device& device, const std::function<void(int64_t done)>& progress = {});

}  // namespace pgolf
