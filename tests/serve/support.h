// A fake language model with scripted output.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "pgolf/serve/language_model.h"
#include "support/dataset.h"

namespace pgolf::testing {

using nlohmann::json;

/// Continues every prompt with `script`, and then with BOS. Token i of a prompt has log-probability -1 - i, new ones -0.5; the
/// alternative reported for each is id 5 at -0.25.
class ScriptedModel : public LanguageModel {
 public:
  explicit ScriptedModel(std::vector<int> script, int context = 64) : script(std::move(script)), context_(context) {}

  int context() const override { return context_; }
  int vocab_size() const override { return Dataset::vocab_size; }

  std::unique_ptr<TextInProgress> begin(const std::vector<int>& ids, const SamplingOptions& sampling) override {
    seeds.push_back(sampling.seed);
    return std::make_unique<Text>(*this, ids);
  }

  std::vector<int> script;
  std::vector<int64_t> seeds;          ///< of the started texts
  std::function<void()> before_token;  ///< called before each new token; may be empty

 private:
  class Text : public TextInProgress {
   public:
    Text(const ScriptedModel& model, std::vector<int> ids) : model_(model), ids_(std::move(ids)) {}

    std::vector<TokenScore> score_prompt(int top) override {
      std::vector<TokenScore> scores;
      for (size_t i = 0; i < ids_.size(); ++i) scores.push_back(score(ids_[i], -1 - static_cast<float>(i), top));
      return scores;
    }
    TokenScore next(int top) override {
      if (model_.before_token) model_.before_token();
      return score(position_ < model_.script.size() ? model_.script[position_++] : kBosId, -0.5F, top);
    }

   private:
    static TokenScore score(int id, float log_prob, int top) {
      TokenScore score{.id = id, .known = true, .log_prob = log_prob, .top = {}};
      if (top > 0) score.top = {{5, -0.25F}};
      return score;
    }

    const ScriptedModel& model_;
    std::vector<int> ids_;
    size_t position_ = 0;
  };

  int context_;
};

}  // namespace pgolf::testing
