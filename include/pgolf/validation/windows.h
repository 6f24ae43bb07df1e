// Shared by all model measurements: reads windows of a validation set and restores the model's mode.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

#include "pgolf/data/validation_set.h"
#include "pgolf/model/gpt.h"

namespace pgolf {

/// RAII: no gradients, evaluation mode.
class EvaluationMode {
 public:
  explicit EvaluationMode(Gpt& model) : model_(model), was_training_(model->is_training()) { model_->eval(); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;
  ~EvaluationMode() { model_->train(was_training_); }

 private:
  torch::NoGradGuard no_grad_;
  Gpt& model_;
  bool was_training_;
};

struct Windows {
  at::Tensor inputs, targets;  ///< [count, seq_len] int64
};

/// Windows first .. first + count - 1 of a set made for seq_len.
inline Windows read_windows(const ValidationSet& validation, int64_t seq_len, int64_t first, int64_t count,
                            const at::Device& device) {
  const int64_t targets = count * seq_len;
  const auto tokens = validation.tokens().subspan(static_cast<size_t>(first * seq_len), static_cast<size_t>(targets + 1));
  auto ids = torch::empty({targets + 1}, torch::kLong);
  std::copy(tokens.begin(), tokens.end(), ids.data_ptr<int64_t>());
  ids = ids.to(device);
  return {ids.narrow(0, 0, targets).view({count, seq_len}), ids.narrow(0, 1, targets).view({count, seq_len})};
}

}  // namespace pgolf
