// One choice of a response: the text that a model adds to a prompt, token by token.
#pragma once

#include <string>
#include <vector>

#include "pgolf/data/text_stream.h"
#include "pgolf/serve/language_model.h"
#include "pgolf/serve/request.h"

namespace pgolf {

/// A token as reported in responses.
struct ReportedToken {
  TokenScore score;
  size_t offset = 0;  ///< start in prompt plus text, in characters (code points)
};

/// Output of one step.
struct CompletionPart {
  std::string text;                   ///< whole characters; empty while one, or a possible stop text, is incomplete
  std::vector<ReportedToken> tokens;  ///< the tokens of this text
};

/// Text is returned only when no stop text can begin in it any more; a stop text itself and what follows are never returned.
class Completion {
 public:
  /// ids: a prompt of the request; seed: that of this choice. All references must outlive this object.
  Completion(LanguageModel& model, const Tokenizer& tokenizer, const CompletionRequest& request, const std::vector<int>& ids,
             int64_t seed);

  /// The prompt first if the request has echo, then the text of the next token.
  CompletionPart step();
  bool done() const { return !finish_reason_.empty(); }
  /// "stop" (a stop text, or end of document) or "length"; empty until done.
  const std::string& finish_reason() const { return finish_reason_; }
  int prompt_tokens() const { return static_cast<int>(prompt_.size()); }
  int new_tokens() const { return new_tokens_; }

 private:
  CompletionPart echo_prompt();
  CompletionPart take_text(size_t bytes);
  size_t held_back() const;
  void finish(const char* reason) { finish_reason_ = reason; }

  struct Held {
    ReportedToken token;
    size_t begin = 0, end = 0;  ///< bytes of its text within held_text_
  };

  const CompletionRequest& request_;
  std::vector<int> prompt_;
  std::unique_ptr<TextInProgress> text_;
  TextStream stream_;
  std::vector<int> ends_;  ///< ids that end the document
  bool echo_;
  size_t characters_ = 0;  ///< of the prompt and all text so far
  std::string held_text_;
  std::vector<Held> held_;
  int new_tokens_ = 0;
  std::string finish_reason_;
};

}  // namespace pgolf
