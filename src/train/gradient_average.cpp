#include "gradient_average.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/types.h>

#include <algorithm>

namespace pgolf {

struct GradientAverage::Hook : torch::autograd::PostAccumulateGradHook {
  Hook(GradientAverage& average, size_t bucket) : average(average), bucket(bucket) {}
  void operator()(const at::Tensor&) override { average.completed(bucket); }
  GradientAverage& average;
  size_t bucket;
};

GradientAverage::GradientAverage(Gpt& model, Group& group, std::optional<at::ScalarType> dtype, int64_t bucket_bytes)
    : group_(group), dtype_(dtype) {
  if (!group.connected()) return;
  auto parameters = model->parameters();
  std::reverse(parameters.begin(), parameters.end());
  int64_t bytes = bucket_bytes;
  for (const auto& parameter : parameters) {
    if (parameter.numel() == 0) continue;
    if (bytes >= bucket_bytes) {
      buckets_.emplace_back();
      bytes = 0;
    }
    buckets_.back().parameters.push_back(parameter);
    bytes += static_cast<int64_t>(parameter.nbytes());
    torch::autograd::impl::set_post_acc_grad_hooks(parameter, std::make_unique<Hook>(*this, buckets_.size() - 1));
  }
}

GradientAverage::~GradientAverage() {
  for (const auto& bucket : buckets_) {
    for (const auto& parameter : bucket.parameters) torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
  }
}

void GradientAverage::reset() {
  waits_.clear();
  sent_ = 0;
  started_ = false;
}

void GradientAverage::start() {
  for (auto& bucket : buckets_) bucket.missing = bucket.parameters.size();
  started_ = true;
}

void GradientAverage::completed(size_t bucket) {
  if (!started_) return;
  --buckets_[bucket].missing;
  while (sent_ < buckets_.size() && buckets_[sent_].missing == 0) send(buckets_[sent_]);
}

void GradientAverage::send(const Bucket& bucket) {
  ++sent_;
  torch::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : bucket.parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  if (gradients.empty()) return;
  // Divided first, as in DistributedDataParallel: a sum in bfloat16 then stays in range.
  at::_foreach_div_(gradients, static_cast<double>(group_.world_size()));
  waits_.push_back(group_.start_sum(gradients, dtype_));
}

void GradientAverage::finish() {
  while (sent_ < buckets_.size()) send(buckets_[sent_]);
  for (const auto& wait : waits_) wait();
  reset();
}

}  // namespace pgolf
