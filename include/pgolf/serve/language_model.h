// The language model interface of the server. Free of LibTorch, so that requests, responses and the server can be tested with a
// small fake model.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "pgolf/model/sampling.h"

namespace pgolf {

/// A token and its log-probability, before temperature and other sampling options.
struct TokenScore {
  int id = 0;
  bool known = true;                       ///< false for a BOS at the start of the text, which has nothing before it
  float log_prob = 0;                      ///< nats
  std::vector<std::pair<int, float>> top;  ///< most likely tokens with their log-probabilities, descending
};

/// A prompt and its sampled continuation.
class TextInProgress {
 public:
  virtual ~TextInProgress() = default;

  /// One score for each id of the prompt, given BOS and the ids before it. Call before the first next().
  virtual std::vector<TokenScore> score_prompt(int top) = 0;
  /// Samples a token and adds it to the text. BOS and EOS end the document; do not continue after them.
  virtual TokenScore next(int top) = 0;
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  virtual int context() const = 0;  ///< context length in tokens, including BOS
  virtual int vocab_size() const = 0;
  /// ids: at most context()-1, or context() if they begin with BOS. A missing BOS is prepended.
  virtual std::unique_ptr<TextInProgress> begin(const std::vector<int>& ids, const SamplingOptions& sampling) = 0;
};

}  // namespace pgolf
