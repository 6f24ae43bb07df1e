#include "answer.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "pgolf/base/format.h"

namespace pgolf {
namespace {

using nlohmann::ordered_json;

/// Text of a token: spaces for SentencePiece's marks; a byte that is not a character by itself as "bytes:\xE2".
std::string token_text(const Tokenizer& tokenizer, int id) {
  if (tokenizer.is_byte(id)) {
    const int byte = tokenizer.byte_of(id);
    return byte < 0x80 ? std::string(1, static_cast<char>(byte)) : format("bytes:\\x%02X", byte);
  }
  return with_spaces(tokenizer.id_to_piece(id));
}

/// JSON has no infinity.
double finite(float log_prob) {
  return std::max(log_prob, std::numeric_limits<float>::lowest());
}

}  // namespace

std::string dump_json(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

Answer::Answer(LanguageModel& model, const Tokenizer& tokenizer, CompletionRequest request, std::string id, int64_t created,
               std::string model_name)
    : model_(model),
      tokenizer_(tokenizer),
      request_(std::move(request)),
      id_(std::move(id)),
      model_name_(std::move(model_name)),
      created_(created),
      choices_(request_.prompts.size() * static_cast<size_t>(request_.n)) {}

std::string Answer::step() {
  Choice& choice = choices_[index_];
  const auto n = static_cast<size_t>(request_.n);
  if (!current_) {
    const auto& ids = request_.prompts[index_ / n];
    current_ = std::make_unique<Completion>(model_, tokenizer_, request_, ids,
                                            request_.sampling.seed + static_cast<int64_t>(index_ % n));
    if (index_ % n == 0) prompt_tokens_ += current_->prompt_tokens();
  }
  CompletionPart part;
  if (!current_->done()) part = current_->step();
  std::string events;
  if (request_.stream) {
    if (!part.text.empty() || !part.tokens.empty()) events = event(index_, part, nullptr);
  } else {
    choice.text += part.text;
    std::move(part.tokens.begin(), part.tokens.end(), std::back_inserter(choice.tokens));
  }
  if (current_->done()) {
    choice.finish_reason = current_->finish_reason();
    new_tokens_ += current_->new_tokens();
    current_.reset();
    if (request_.stream) events += event(index_, {}, &choice.finish_reason);
    ++index_;
  }
  return events;
}

ordered_json Answer::frame() const {
  return {{"id", id_}, {"object", "text_completion"}, {"created", created_}, {"model", model_name_}};
}

ordered_json Answer::usage() const {
  return {{"prompt_tokens", prompt_tokens_}, {"completion_tokens", new_tokens_}, {"total_tokens", prompt_tokens_ + new_tokens_}};
}

ordered_json Answer::logprobs(const std::vector<ReportedToken>& tokens) const {
  if (!request_.logprobs) return nullptr;
  auto texts = ordered_json::array(), values = texts, tops = texts, offsets = texts;
  for (const auto& [score, offset] : tokens) {
    texts.push_back(token_text(tokenizer_, score.id));
    offsets.push_back(offset);
    if (!score.known) {
      values.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    values.push_back(finite(score.log_prob));
    auto top = ordered_json::object();
    // Several tokens may have the same text; the most likely one counts.
    const auto add = [&](int id, float log_prob) {
      auto& entry = top[token_text(tokenizer_, id)];
      if (entry.is_null() || entry < finite(log_prob)) entry = finite(log_prob);
    };
    for (const auto& [id, log_prob] : score.top) add(id, log_prob);
    add(score.id, score.log_prob);
    tops.push_back(std::move(top));
  }
  return {{"tokens", texts}, {"token_logprobs", values}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

std::string Answer::event(size_t index, const CompletionPart& part, const std::string* finish_reason) const {
  ordered_json message = frame();
  ordered_json choice{{"text", part.text}, {"index", index}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
  if (finish_reason) {
    choice["finish_reason"] = *finish_reason;
  } else {
    choice["logprobs"] = logprobs(part.tokens);
  }
  message["choices"] = ordered_json::array({std::move(choice)});
  return "data: " + dump_json(message) + "\n\n";
}

std::string Answer::body() const {
  ordered_json message = frame();
  auto choices = ordered_json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices.push_back({{"text", choices_[i].text},
                       {"index", i},
                       {"logprobs", logprobs(choices_[i].tokens)},
                       {"finish_reason", choices_[i].finish_reason}});
  }
  message["choices"] = std::move(choices);
  message["usage"] = usage();
  return dump_json(message);
}

std::string Answer::end_of_stream() const {
  std::string events;
  if (given_up_) return events;
  if (request_.include_usage) {
    ordered_json message = frame();
    message["choices"] = ordered_json::array();
    message["usage"] = usage();
    events = "data: " + dump_json(message) + "\n\n";
  }
  return events + "data: [DONE]\n\n";
}

}  // namespace pgolf
