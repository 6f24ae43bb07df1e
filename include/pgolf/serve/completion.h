// One choice of an answer: the text that a model adds to a prompt, token by token.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pgolf/data/text_stream.h"
#include "pgolf/serve/language_model.h"
#include "pgolf/serve/request.h"

namespace pgolf {

/// A token as answers show it.
struct ShownToken {
  TokenScore score;
  size_t offset = 0;  ///< where it begins, in characters (code points) of prompt and text together
};

/// What one more step gives.
struct CompletionPart {
  std::string text;                ///< whole characters; empty while one is incomplete or a stop text may be
  std::vector<ShownToken> tokens;  ///< those whose text this is
};

/// Text is given out only when no stop text can begin in it any more; a stop text itself and what follows are not given out.
class Completion {
 public:
  /// ids: a prompt of the request; seed: this choice's. All references must outlive this.
  Completion(LanguageModel& model, const Tokenizer& tokenizer, const CompletionRequest& request, const std::vector<int>& ids,
             int64_t seed);

  /// The prompt if it is to be echoed, else the next token's.
  CompletionPart step();
  bool done() const { return !finish_reason_.empty(); }
  /// "stop" (a stop text, or the document's end) or "length"; empty before the end.
  const std::string& finish_reason() const { return finish_reason_; }
  int prompt_tokens() const { return static_cast<int>(prompt_.size()); }
  int new_tokens() const { return new_tokens_; }

 private:
  CompletionPart echo_prompt();
  CompletionPart take_text(size_t bytes);
  size_t held_back() const;
  void finish(const char* reason) { finish_reason_ = reason; }

  struct Held {
    ShownToken token;
    size_t begin = 0, end = 0;  ///< bytes of its text within held_text_
  };

  const CompletionRequest& request_;
  std::vector<int> prompt_;
  std::unique_ptr<TextInProgress> text_;
  TextStream stream_;
  bool echo_;
  size_t characters_ = 0;  ///< of the prompt and all text so far
  std::string held_text_;
  std::vector<Held> held_;
  int new_tokens_ = 0;
  std::string finish_reason_;
};

}  // namespace pgolf
