#include "pgolf/serve/gpt_language_model.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "pgolf/base/error.h"
#include "pgolf/eval/likelihood.h"
#include "pgolf/model/generate.h"

namespace pgolf {
namespace {

/// Scores ids[i] by rows[i]; rows [N, V] are float32 log-probabilities on the CPU.
std::vector<TokenScore> score_rows(const std::vector<int>& ids, const at::Tensor& rows, int top) {
  std::vector<TokenScore> scores;
  if (ids.empty()) return scores;
  const auto all = rows.accessor<float, 2>();
  const auto [values, indices] = rows.topk(std::min<int64_t>(top, rows.size(1)));
  const auto value = values.accessor<float, 2>();
  const auto index = indices.accessor<int64_t, 2>();
  for (int64_t i = 0; i < static_cast<int64_t>(ids.size()); ++i) {
    const int id = ids[static_cast<size_t>(i)];
    TokenScore score{.id = id, .known = true, .log_prob = all[i][id], .top = {}};
    if (std::isnan(score.log_prob)) throw Error(ExitCode::non_finite, "the model's logits are not finite");
    for (int64_t k = 0; k < values.size(1); ++k) score.top.emplace_back(static_cast<int>(index[i][k]), value[i][k]);
    scores.push_back(std::move(score));
  }
  return scores;
}

class GptText : public TextInProgress {
 public:
  GptText(Gpt& model, const std::vector<int>& ids, int context, int bos_id, const at::Device& device,
          const SamplingOptions& sampling)
      : model_(model),
        device_(device),
        ids_(ids),
        input_(model_input(ids, context, bos_id)),
        text_(model, {input_.begin(), input_.end()}, context, device),
        sampler_(sampling) {}

  std::vector<TokenScore> score_prompt(int top) override {
    const auto rows = log_probabilities_after(model_, input_, 0, device_);  // row i: the token after input_[i]
    const int64_t count = rows.size(0) - 1;
    following_ = rows[count].clone();
    auto scores = score_rows({input_.begin() + 1, input_.end()}, rows.narrow(0, 0, count), top);
    if (input_.size() == ids_.size()) scores.insert(scores.begin(), {.id = ids_[0], .known = false, .log_prob = 0, .top = {}});
    return scores;
  }

  TokenScore next(int top) override {
    const torch::NoGradGuard no_grad;
    // Sampling from log-probabilities equals sampling from logits: they differ by a constant.
    const at::Tensor row = following_.defined() ? std::exchange(following_, {}) : at::log_softmax(text_.logits(), -1);
    const int id = sampler_.next(row);
    text_.push(id);
    return score_rows({id}, row.unsqueeze(0), top)[0];
  }

 private:
  Gpt model_;
  at::Device device_;
  std::vector<int> ids_;
  std::vector<int64_t> input_;
  Continuation text_;
  Sampler sampler_;
  at::Tensor following_;  ///< [V] log-probabilities of the token after the prompt, if score_prompt() has computed them
};

class GptLanguageModel : public LanguageModel {
 public:
  GptLanguageModel(Gpt model, int context, int bos_id, const at::Device& device)
      : model_(std::move(model)), context_(context), bos_id_(bos_id), device_(device) {}

  int context() const override { return context_; }
  int vocab_size() const override { return model_->config().vocab_size; }
  std::unique_ptr<TextInProgress> begin(const std::vector<int>& ids, const SamplingOptions& sampling) override {
    return std::make_unique<GptText>(model_, ids, context_, bos_id_, device_, sampling);
  }

 private:
  Gpt model_;
  int context_, bos_id_;
  at::Device device_;
};

}  // namespace

std::unique_ptr<LanguageModel> make_language_model(Gpt model, int context, int bos_id, const at::Device& device) {
  return std::make_unique<GptLanguageModel>(std::move(model), context, bos_id, device);
}

}  // namespace pgolf
