// What the server needs of a language model. Free of LibTorch, so that requests, answers and the server can be tested on a model
// of a few lines.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "pgolf/eval/sampling.h"

namespace pgolf {

/// A token and how likely the model found it, before temperature and the like.
struct TokenScore {
  int id = 0;
  bool known = true;                       ///< false for the text's first token if that is BOS: nothing stands before it
  float log_prob = 0;                      ///< nats
  std::vector<std::pair<int, float>> top;  ///< the likeliest tokens and theirs, falling
};

/// A prompt and what is drawn after it.
class TextInProgress {
 public:
  virtual ~TextInProgress() = default;

  /// One score for each id of the prompt, given BOS and those before it; before the first next().
  virtual std::vector<TokenScore> score_prompt(int top) = 0;
  /// Draws a token and adds it to the text. BOS ends a document: there is nothing sensible after it.
  virtual TokenScore next(int top) = 0;
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  virtual int context() const = 0;  ///< tokens it can see at once, BOS among them
  virtual int vocab_size() const = 0;
  /// ids: at most context()-1, or context() if they begin with BOS. One that is not there is put before them.
  virtual std::unique_ptr<TextInProgress> begin(const std::vector<int>& ids, const SamplingOptions& sampling) = 0;
};

}  // namespace pgolf
