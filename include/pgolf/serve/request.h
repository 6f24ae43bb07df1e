// The bodies of requests, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/data/tokenizer.h"
#include "pgolf/eval/sampling.h"
#include "pgolf/serve/api_error.h"

namespace pgolf {

/// What one request may ask for.
struct RequestLimits {
  int context = 1024;     ///< tokens, BOS among them
  int max_tokens = 4096;  ///< new ones of a text
  int max_choices = 256;  ///< texts: prompts times n
};

/// POST /v1/completions. What the body leaves out has OpenAI's defaults.
struct CompletionRequest {
  std::vector<std::vector<int>> prompts;  ///< ids; BOS only where the client gave it
  SamplingOptions sampling{.temperature = 1, .top_k = 0, .top_p = 1, .seed = 0};
  int max_tokens = 16;
  int n = 1;  ///< texts for each prompt, with the seeds seed, seed+1, ...
  std::vector<std::string> stop;
  bool echo = false, stream = false, include_usage = false;
  std::optional<int> logprobs;  ///< how many of the likeliest tokens are told of each
};

/// ApiError(400) that names the field for what is no JSON, of another type or beyond a limit, and for what OpenAI's API has and
/// this server does not do (suffix, penalties, best_of); 404 for a model that is not model_name. Unknown fields do not matter.
CompletionRequest parse_completion_request(std::string_view body, const std::string& model_name, const Tokenizer& tokenizer,
                                           const RequestLimits& limits);

/// POST /tokenize {"prompt":text,"add_special_tokens":bool}. A text that is just "<s>" or "</s>" is that one token.
std::vector<int> parse_tokenize_request(std::string_view body, const Tokenizer& tokenizer);
/// POST /detokenize {"tokens":[ids]}.
std::vector<int> parse_detokenize_request(std::string_view body, const Tokenizer& tokenizer);

}  // namespace pgolf
