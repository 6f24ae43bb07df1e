// A completions request while it is being answered: its choices one after another, and their JSON.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/serve/completion.h"

namespace pgolf {

/// One line; bytes that are not UTF-8 become U+FFFD.
std::string dump_json(const nlohmann::ordered_json& value);

class Answer {
 public:
  Answer(LanguageModel& model, const Tokenizer& tokenizer, CompletionRequest request, std::string id, int64_t created,
         std::string model_name);

  const CompletionRequest& request() const { return request_; }
  /// Computes a token, or scores a prompt, and returns the events that tell of it ("data: ...", perhaps none).
  std::string step();
  bool done() const { return index_ == choices_.size() || given_up_; }
  void give_up() { given_up_ = true; }
  /// The answer to a request that does not stream; when done.
  std::string body() const;
  /// What ends a stream.
  std::string end_of_stream() const;

 private:
  struct Choice {
    std::string text;
    std::vector<ShownToken> tokens;
    std::string finish_reason;
  };

  nlohmann::ordered_json frame() const;
  nlohmann::ordered_json usage() const;
  nlohmann::ordered_json logprobs(const std::vector<ShownToken>& tokens) const;
  std::string event(size_t index, const CompletionPart& part, const std::string* finish_reason) const;

  LanguageModel& model_;
  const Tokenizer& tokenizer_;
  const CompletionRequest request_;
  const std::string id_, model_name_;
  const int64_t created_;
  std::vector<Choice> choices_;
  size_t index_ = 0;  ///< of the choice at work
  std::unique_ptr<Completion> current_;
  int64_t prompt_tokens_ = 0, new_tokens_ = 0;
  bool given_up_ = false;
};

}  // namespace pgolf
