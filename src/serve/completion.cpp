#include "pgolf/serve/completion.h"

#include <algorithm>

namespace pgolf {
namespace {

size_t count_characters(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

SamplingOptions with_seed(SamplingOptions sampling, int64_t seed) {
  sampling.seed = seed;
  return sampling;
}

}  // namespace

Completion::Completion(LanguageModel& model, const Tokenizer& tokenizer, const CompletionRequest& request,
                       const std::vector<int>& ids, int64_t seed)
    : request_(request),
      prompt_(ids),
      text_(model.begin(ids, with_seed(request.sampling, seed))),
      stream_(tokenizer),
      ends_(tokenizer.document_ends()),
      echo_(request.echo) {
  if (echo_) return;
  for (const int id : prompt_) characters_ += count_characters(stream_.push(id));
  if (request_.max_tokens == 0) finish("length");
}

CompletionPart Completion::echo_prompt() {
  echo_ = false;
  CompletionPart part;
  std::vector<TokenScore> scores;
  if (request_.logprobs) scores = text_->score_prompt(*request_.logprobs);
  for (size_t i = 0; i < prompt_.size(); ++i) {
    const std::string piece = stream_.push(prompt_[i]);
    if (request_.logprobs) {
      // The first token of a text has no log-probability, as on other servers, although BOS precedes it.
      if (i == 0) scores[i].known = false;
      part.tokens.push_back({std::move(scores[i]), characters_});
    }
    characters_ += count_characters(piece);
    part.text += piece;
  }
  if (request_.max_tokens == 0) {
    part.text += stream_.finish();
    finish("length");
  }
  return part;
}

/// The first `bytes` of the held text, with the tokens that start or lie in them.
CompletionPart Completion::take_text(size_t bytes) {
  CompletionPart part;
  part.text = held_text_.substr(0, bytes);
  held_text_.erase(0, bytes);
  size_t taken = 0;
  while (taken < held_.size() && (held_[taken].begin < bytes || held_[taken].end <= bytes))
    part.tokens.push_back(std::move(held_[taken++].token));
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(taken));
  for (auto& held : held_) {
    held.begin -= bytes;
    held.end -= bytes;
  }
  return part;
}

/// Bytes at the end of the held text that may be the beginning of a stop text.
size_t Completion::held_back() const {
  size_t longest = 0;
  for (const auto& stop : request_.stop) {
    for (size_t length = std::min(stop.size() - 1, held_text_.size()); length > longest; --length) {
      if (held_text_.ends_with(std::string_view(stop).substr(0, length))) longest = length;
    }
  }
  return longest;
}

CompletionPart Completion::step() {
  if (echo_) return echo_prompt();
  TokenScore score = text_->next(request_.logprobs.value_or(0));
  ++new_tokens_;
  const bool ends = std::ranges::count(ends_, score.id) > 0;
  const size_t begin = held_text_.size(), offset = characters_;
  std::string piece = ends ? std::string() : stream_.push(score.id);
  const bool last = ends || new_tokens_ == request_.max_tokens;
  if (last) piece += stream_.finish();
  characters_ += count_characters(piece);
  held_text_ += piece;
  if (request_.logprobs && !ends) held_.push_back({{std::move(score), offset}, begin, held_text_.size()});

  size_t stop_at = std::string::npos;
  for (const auto& stop : request_.stop) stop_at = std::min(stop_at, held_text_.find(stop));
  if (stop_at != std::string::npos) {
    finish("stop");
    return take_text(stop_at);
  }
  if (last) {
    finish(ends ? "stop" : "length");
    return take_text(held_text_.size());
  }
  return take_text(held_text_.size() - held_back());
}

}  // namespace pgolf
