// A completions request in progress: computes its choices one after another and formats the JSON response.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "pgolf/serve/completion.h"

namespace pgolf {

/// On one line; bytes that are not UTF-8 become U+FFFD.
std::string dump_json(const nlohmann::ordered_json& value);

class Answer {
 public:
  Answer(LanguageModel& model, const Tokenizer& tokenizer, CompletionRequest request, std::string id, int64_t created,
         std::string model_name);

  const CompletionRequest& request() const { return request_; }
  /// Computes a token, or scores a prompt, and returns its stream events ("data: ...", possibly none).
  std::string step();
  bool done() const { return index_ == choices_.size() || given_up_; }
  void give_up() { given_up_ = true; }
  /// The response body of a request that does not stream; call when done.
  std::string body() const;
  /// The final events of a stream.
  std::string end_of_stream() const;

 private:
  struct Choice {
    std::string text;
    std::vector<ReportedToken> tokens;
    std::string finish_reason;
  };

  nlohmann::ordered_json frame() const;
  nlohmann::ordered_json usage() const;
  nlohmann::ordered_json logprobs(const std::vector<ReportedToken>& tokens) const;
  std::string event(size_t index, const CompletionPart& part, const std::string* finish_reason) const;

  LanguageModel& model_;
  const Tokenizer& tokenizer_;
  const CompletionRequest request_;
  const std::string id_, model_name_;
  const int64_t created_;
  std::vector<Choice> choices_;
  size_t index_ = 0;  ///< of the current choice
  std::unique_ptr<Completion> current_;
  int64_t prompt_tokens_ = 0, new_tokens_ = 0;
  bool given_up_ = false;
};

}  // namespace pgolf
