// How likely a model finds given text. Everything that reports log-probabilities goes through here, so that all of it has the
// same numbers: each text is a forward pass of its own, and its numbers do not depend on what is scored before it or beside it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "pgolf/data/tokenizer.h"
#include "pgolf/model/gpt.h"

namespace pgolf {

/// What a model that was trained on windows of `context` tokens is given to read ids: BOS (id 1), with which documents begin in
/// training, and the last context-1 of them. Ids that begin with BOS themselves and fit into the context are left as they are.
std::vector<int64_t> model_input(std::span<const int> ids, int context);

/// Log-softmax, in float32, of the logits after input[first], input[first + 1], ... input.back(): [input.size() - first, V] on
/// the CPU. Row i is what the model says of the token that follows input[first + i].
at::Tensor log_probabilities_after(Gpt& model, const std::vector<int64_t>& input, size_t first, const at::Device& device);

/// A text in two parts, the second of which is scored.
struct TextPair {
  std::vector<int> context, continuation;
};

/// As lm-evaluation-harness does it for causal models: white space at the end of the context moves to the continuation, both are
/// encoded as one text, and the continuation is what that has more than the context alone; nothing, if it is only blanks.
TextPair encode_pair(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation);

struct Likelihood {
  double log_prob = 0;     ///< sum of the tokens' log-probabilities, nats; added in float64 from the first to the last
  bool greedy = false;     ///< every token is the likeliest of all, given those before it
  bool truncated = false;  ///< the context's beginning did not fit
};

/// The continuations' likelihoods given their contexts. A continuation needs at least one token and at most context-1, otherwise
/// Error(bad_input). progress: called with how many are done; may be empty.
std::vector<Likelihood> likelihoods(Gpt& model, std::span<const TextPair> pairs, int context, const at::Device& device,
                                    const std::function<void(int64_t done)>& progress = {});

}  // namespace pgolf
