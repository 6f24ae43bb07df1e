// Parsing and validation of request bodies.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/data/tokenizer.h"
#include "pgolf/model/sampling.h"
#include "pgolf/serve/api_error.h"

namespace pgolf {

/// Limits of one request.
struct RequestLimits {
  int context = 1024;     ///< tokens, including BOS
  int max_tokens = 4096;  ///< new tokens per text
  int max_choices = 256;  ///< texts: prompts times n
};

/// POST /v1/completions. Absent fields have OpenAI's defaults.
struct CompletionRequest {
  std::vector<std::vector<int>> prompts;  ///< ids; BOS only if the client sent it
  SamplingOptions sampling{.temperature = 1, .top_k = 0, .top_p = 1, .seed = 0};
  int max_tokens = 16;
  int n = 1;  ///< texts per prompt, with the seeds seed, seed+1, ...
  std::vector<std::string> stop;
  bool echo = false, stream = false, include_usage = false;
  std::optional<int> logprobs;  ///< number of most likely alternatives to report per token
};

/// ApiError(400) naming the field for invalid JSON, a wrong type, a value beyond a limit, or a feature of OpenAI's API that this
/// server lacks (suffix, penalties, best_of); 404 for a model other than model_name. Unknown fields are ignored.
CompletionRequest parse_completion_request(std::string_view body, const std::string& model_name, const Tokenizer& tokenizer,
                                           const RequestLimits& limits);

/// POST /tokenize {"prompt":text,"add_special_tokens":bool}. A text that is just the name of BOS or EOS, "<s>"
/// or "</s>" as a rule, is that one token.
std::vector<int> parse_tokenize_request(std::string_view body, const Tokenizer& tokenizer);
/// POST /detokenize {"tokens":[ids]}.
std::vector<int> parse_detokenize_request(std::string_view body, const Tokenizer& tokenizer);

}  // namespace pgolf
