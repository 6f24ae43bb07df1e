#include "pgolf/train/test_time_training.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/ops/linear.h"
#include "pgolf/optim/optimizers.h"
#include "pgolf/validation/windows.h"

namespace pgolf {
namespace {

constexpr double kMaxGradNorm = 1.0;

/// torch.optim.SGD with momentum, without dampening.
class Sgd {
 public:
  Sgd(std::vector<at::Tensor> parameters, double momentum)
      : parameters_(std::move(parameters)), buffers_(parameters_.size()), momentum_(momentum) {}

  void zero_grad() {
    for (auto& parameter : parameters_) parameter.mutable_grad() = at::Tensor();
  }

  void step(double lr) {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      const auto& gradient = parameters_[i].grad();
      if (!gradient.defined()) continue;
      auto& buffer = buffers_[i];
      buffer = buffer.defined() ? buffer.mul_(momentum_).add_(gradient) : gradient.clone();
      parameters_[i].add_(buffer, -lr);
      ops::mark_changed(parameters_[i]);
    }
  }

  const std::vector<at::Tensor>& parameters() const { return parameters_; }

 private:
  std::vector<at::Tensor> parameters_, buffers_;
  double momentum_;
};

class TestTimeTrainer {
 public:
  TestTimeTrainer(Gpt& model, std::span<const uint16_t> tokens, const TestTimeWindows& windows, const TestTimeTraining& ttt,
                  Group& group)
      : model_(model), tokens_(tokens), windows_(windows), ttt_(ttt), group_(group), sgd_(model->parameters(), ttt.momentum) {}

  /// Trains on the targets begin .. end - 1, as far as they are whole sequences.
  void train(int64_t begin, int64_t end, TrainedChunk* chunk) {
    const int64_t sequences = (end - begin) / windows_.seq_len;
    for (int epoch = 0; epoch < ttt_.epochs; ++epoch) {
      for (int64_t first = 0; first < sequences; first += windows_.per_batch) {
        step(begin + first * windows_.seq_len, std::min(windows_.per_batch, sequences - first), chunk);
      }
    }
  }

 private:
  /// One step on sequences one after the other, of which each rank takes some.
  void step(int64_t begin, int64_t sequences, TrainedChunk* chunk) {
    sgd_.zero_grad();
    const auto [first, last] = group_.share(sequences);
    double loss = 0;
    if (last > first) loss = backward(begin + first * windows_.seq_len, last - first, sequences);
    if (group_.connected()) {
      std::vector<at::Tensor> gradients;
      for (const auto& parameter : sgd_.parameters()) {
        auto& gradient = parameter.mutable_grad();
        if (!gradient.defined()) gradient = at::zeros_like(parameter);
        gradients.push_back(gradient);
      }
      group_.sum_(gradients);
    }
    const double norm = clip_grad_norm(sgd_.parameters(), kMaxGradNorm).item<double>();
    if (!std::isfinite(norm)) {
      throw Error(ExitCode::non_finite,
                  format("test-time training: the gradient of chunk %lld is not finite", static_cast<long long>(chunk->index)),
                  "set a lower TTT_LR");
    }
    sgd_.step(chunk->lr);
    chunk->losses.push_back(loss);
    chunk->grad_norms.push_back(norm);
  }

  /// The gradient of this rank's part of the mean over `all` sequences. Returns the mean loss of `sequences`.
  double backward(int64_t begin, int64_t sequences, int64_t all) {
    const auto [inputs, targets] = read_windows(tokens_.subspan(static_cast<size_t>(begin)), windows_.seq_len, 0, sequences,
                                                model_->tok_emb->weight.device());
    const double weight = static_cast<double>(sequences) / static_cast<double>(all);
    const auto loss = model_(inputs, targets, weight);
    (loss * weight).backward();
    return loss.item<double>();
  }

  Gpt& model_;
  std::span<const uint16_t> tokens_;
  const TestTimeWindows& windows_;
  const TestTimeTraining& ttt_;
  Group& group_;
  Sgd sgd_;
};

}  // namespace

void train_at_test_time(Gpt& model, std::span<const uint16_t> tokens, const TestTimeWindows& windows, const TestTimeTraining& ttt,
                        Group& group, const OnScored& on_scored, const std::function<bool(const TrainedChunk&)>& on_chunk) {
  const auto targets = static_cast<int64_t>(tokens.size()) - 1;
  const auto all = plan_windows(targets, windows.seq_len, windows.stride);
  const int64_t chunks = (targets + ttt.chunk_tokens - 1) / ttt.chunk_tokens;
  TestTimeTrainer trainer(model, tokens, windows, ttt, group);
  for (size_t first = 0, last = 0; first < all.size(); first = last) {
    const auto chunk_of = [&](const ScoredWindow& window) { return (window.begin + window.first_scored) / ttt.chunk_tokens; };
    TrainedChunk chunk{.index = chunk_of(all[first]), .count = chunks};
    while (last < all.size() && chunk_of(all[last]) == chunk.index) ++last;
    chunk.windows = static_cast<int64_t>(last - first);
    const auto [mine, end] = group.share(chunk.windows);
    score_windows(model, tokens, std::span(all).subspan(first + static_cast<size_t>(mine), static_cast<size_t>(end - mine)),
                  windows.per_batch, on_scored);
    if (chunk.index < chunks - 1 && ttt.epochs > 0) {
      const double done = static_cast<double>(chunk.index) / static_cast<double>(chunks - 1);
      chunk.lr = ttt.lr * 0.5 * (1 + std::cos(std::numbers::pi * done));
      const int64_t begin = chunk.index * ttt.chunk_tokens;
      trainer.train(begin, std::min(begin + ttt.chunk_tokens, targets), &chunk);
    }
    if (on_chunk && !on_chunk(chunk)) break;
  }
}

}  // namespace pgolf
