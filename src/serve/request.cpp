#include "pgolf/serve/request.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "pgolf/base/format.h"
#include "pgolf/base/json_problem.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 8;  // nesting of a body; a prompt needs three
constexpr size_t kMaxStops = 16;
constexpr int kMaxLogprobs = 20;

/// Fields of a JSON object; null counts as absent.
class Fields {
 public:
  explicit Fields(std::string_view body) {
    const auto not_too_deep = [](int depth, json::parse_event_t, json&) {
      if (depth > kMaxDepth) throw ApiError(400, "the body is nested too deeply");
      return true;
    };
    try {
      object_ = json::parse(body, not_too_deep);
    } catch (const json::exception&) {
      throw ApiError(400, "the body is not valid JSON: " + json_problem(body));
    }
    if (!object_.is_object()) throw ApiError(400, "the body must be a JSON object");
  }

  /// nullptr if absent.
  const json* find(const char* name) const {
    const auto it = object_.find(name);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  int64_t integer(const char* name, int64_t fallback, int64_t low, int64_t high) const {
    const json* value = find(name);
    if (!value) return fallback;
    // Some clients send integers as 16.0.
    const double number = value->is_number() ? value->get<double>() : std::nan("");
    if (!(number >= static_cast<double>(low) && number <= static_cast<double>(high)) || number != std::floor(number)) {
      throw ApiError(
          400, format("%s must be an integer from %lld to %lld", name, static_cast<long long>(low), static_cast<long long>(high)),
          name);
    }
    return value->is_number_integer() ? value->get<int64_t>() : static_cast<int64_t>(number);
  }

  double number(const char* name, double fallback, double low, double high) const {
    const json* value = find(name);
    if (!value) return fallback;
    if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high))
      throw ApiError(400, format("%s must be a number from %g to %g", name, low, high), name);
    return value->get<double>();
  }

  bool boolean(const char* name, bool fallback) const {
    const json* value = find(name);
    if (value && !value->is_boolean()) throw ApiError(400, format("%s must be true or false", name), name);
    return value ? value->get<bool>() : fallback;
  }

 private:
  json object_;
};

int token_id(const json& value, const Tokenizer& tokenizer, const char* field) {
  const int size = tokenizer.vocab_size();
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() >= size)
    throw ApiError(400, format("%s: %s is not a token id (0 to %d)", field, printable(value.dump(), 40).c_str(), size - 1),
                   field);
  return value.get<int>();
}

std::vector<int> token_ids(const json& list, const Tokenizer& tokenizer, const char* field) {
  std::vector<int> ids;
  for (const auto& value : list) ids.push_back(token_id(value, tokenizer, field));
  return ids;
}

/// Text, [texts], [ids] or [[ids]].
std::vector<std::vector<int>> parse_prompts(const Fields& fields, const Tokenizer& tokenizer) {
  const json* prompt = fields.find("prompt");
  if (!prompt) throw ApiError(400, "prompt is missing", "prompt");
  if (prompt->is_string()) return {tokenizer.encode(prompt->get_ref<const std::string&>())};
  if (!prompt->is_array()) throw ApiError(400, "prompt must be a string, or a list of strings or token ids", "prompt");
  if (prompt->empty()) throw ApiError(400, "prompt is an empty list", "prompt");
  if (prompt->front().is_number()) return {token_ids(*prompt, tokenizer, "prompt")};
  std::vector<std::vector<int>> prompts;
  for (const auto& entry : *prompt) {
    if (entry.is_string()) {
      prompts.push_back(tokenizer.encode(entry.get_ref<const std::string&>()));
    } else if (entry.is_array()) {
      prompts.push_back(token_ids(entry, tokenizer, "prompt"));
    } else {
      throw ApiError(400, "prompt must be a string, or a list of strings or token ids", "prompt");
    }
  }
  return prompts;
}

std::vector<std::string> parse_stop(const Fields& fields) {
  const json* stop = fields.find("stop");
  if (!stop) return {};
  std::vector<std::string> texts;
  const auto add = [&](const json& value) {
    if (!value.is_string()) throw ApiError(400, "stop must be a string or a list of strings", "stop");
    if (!value.get_ref<const std::string&>().empty()) texts.push_back(value.get<std::string>());
  };
  if (stop->is_array()) {
    for (const auto& value : *stop) add(value);
  } else {
    add(*stop);
  }
  if (texts.size() > kMaxStops) throw ApiError(400, format("stop has more than %zu strings", kMaxStops), "stop");
  return texts;
}

/// Refuses features of OpenAI's API that this server lacks, unless the value has no effect.
void refuse_unsupported(const Fields& fields, int n) {
  const auto refuse = [](const char* name) { throw ApiError(400, format("%s is not supported", name), name); };
  for (const char* name : {"presence_penalty", "frequency_penalty"}) {
    if (fields.number(name, 0, -2, 2) != 0) refuse(name);
  }
  for (const char* name : {"suffix", "logit_bias"}) {
    const json* value = fields.find(name);
    if (value && !value->empty() && *value != "") refuse(name);
  }
  if (fields.integer("best_of", n, 1, std::numeric_limits<int>::max()) != n) refuse("best_of");
}

int64_t random_seed() {
  std::random_device device;
  return static_cast<int64_t>(device()) << 20 ^ device();
}

}  // namespace

std::string error_body(int status, const std::string& message, const std::string& param, const std::string& code) {
  const auto or_null = [](const std::string& text) { return text.empty() ? json() : json(text); };
  const char* type = status >= 500 ? "server_error" : "invalid_request_error";
  const json body{{"error", {{"message", message}, {"type", type}, {"param", or_null(param)}, {"code", or_null(code)}}}};
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

CompletionRequest parse_completion_request(std::string_view body, const std::string& model_name, const Tokenizer& tokenizer,
                                           const RequestLimits& limits) {
  const Fields fields(body);
  if (const json* model = fields.find("model"); model && *model != model_name) {
    throw ApiError(404, format("no model %s, only \"%s\"", printable(model->dump(), 100).c_str(), model_name.c_str()), "model",
                   "model_not_found");
  }
  CompletionRequest request;
  request.prompts = parse_prompts(fields, tokenizer);
  request.max_tokens = static_cast<int>(fields.integer("max_tokens", request.max_tokens, 0, limits.max_tokens));
  request.n = static_cast<int>(fields.integer("n", 1, 1, limits.max_choices));
  refuse_unsupported(fields, request.n);
  SamplingOptions& sampling = request.sampling;
  sampling.temperature = fields.number("temperature", sampling.temperature, 0, kMaxTemperature);
  sampling.top_p = fields.number("top_p", sampling.top_p, 0, 1);
  if (sampling.top_p == 0) {  // greedy
    sampling.temperature = 0;
    sampling.top_p = 1;
  }
  sampling.top_k = static_cast<int>(fields.integer("top_k", 0, 0, std::numeric_limits<int>::max()));
  sampling.seed = fields.find("seed") ? fields.integer("seed", 0, std::numeric_limits<int64_t>::min() / 2,
                                                       std::numeric_limits<int64_t>::max() / 2)
                                      : random_seed();
  request.stop = parse_stop(fields);
  request.echo = fields.boolean("echo", false);
  request.stream = fields.boolean("stream", false);
  if (const json* options = fields.find("stream_options"); options && options->is_object())
    request.include_usage = options->value("include_usage", json()) == true;
  if (fields.find("logprobs")) request.logprobs = static_cast<int>(fields.integer("logprobs", 0, 0, kMaxLogprobs));

  if (request.prompts.size() * static_cast<size_t>(request.n) > static_cast<size_t>(limits.max_choices)) {
    throw ApiError(400,
                   format("%zu prompts times n=%d exceed the limit of %d texts per request", request.prompts.size(), request.n,
                          limits.max_choices),
                   "prompt");
  }
  for (const auto& ids : request.prompts) {
    const size_t needed = ids.size() + (ids.empty() || ids.front() != tokenizer.bos_id() ? 1 : 0);
    if (needed > static_cast<size_t>(limits.context)) {
      throw ApiError(
          400, format("a prompt of %zu tokens is too long: the context has %d tokens, including BOS", ids.size(), limits.context),
          "prompt", "context_length_exceeded");
    }
  }
  return request;
}

std::vector<int> parse_tokenize_request(std::string_view body, const Tokenizer& tokenizer) {
  const Fields fields(body);
  const json* prompt = fields.find("prompt");
  if (!prompt || !prompt->is_string()) throw ApiError(400, "prompt must be a string", "prompt");
  const auto& text = prompt->get_ref<const std::string&>();
  // Clients ask for these ids by name, which the tokenizer itself would encode as ordinary text.
  for (const int id : tokenizer.document_ends()) {
    if (text == tokenizer.id_to_piece(id)) return {id};
  }
  std::vector<int> ids = tokenizer.encode(text);
  if (fields.boolean("add_special_tokens", false)) ids.insert(ids.begin(), tokenizer.required_bos_id());
  return ids;
}

std::vector<int> parse_detokenize_request(std::string_view body, const Tokenizer& tokenizer) {
  const Fields fields(body);
  const json* tokens = fields.find("tokens");
  if (!tokens || !tokens->is_array()) throw ApiError(400, "tokens must be a list of token ids", "tokens");
  return token_ids(*tokens, tokenizer, "tokens");
}

}  // namespace pgolf
