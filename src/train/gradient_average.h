// The gradients' mean over ranks, computed while the backward pass is still at work.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

#include "pgolf/dist/group.h"
#include "pgolf/model/gpt.h"

namespace pgolf {

/// As in DistributedDataParallel (arXiv 2006.15704): parameters form buckets, the last ones first, since their gradients are
/// ready first; a bucket is sent as soon as it and all before it are complete. So all ranks send the same in the same order.
class GradientAverage {
 public:
  /// The model must outlive this and have no other such object. dtype: of the sum; by default the gradients' own. bucket_bytes:
  /// few enough that most of a backward pass is left when the first bucket is sent, enough that buckets are few.
  GradientAverage(Gpt& model, Group& group, std::optional<at::ScalarType> dtype, int64_t bucket_bytes = int64_t{8} << 20);
  ~GradientAverage();
  GradientAverage(const GradientAverage&) = delete;
  GradientAverage& operator=(const GradientAverage&) = delete;

  /// Forgets a step that did not come to its end, such as a failed recording: nothing is sent before the next start().
  void reset();
  /// The next backward pass on the model is this step's last one: its gradients are sent when they are complete.
  void start();
  /// Sends what has not been sent, and returns when every gradient is the mean.
  void finish();

 private:
  struct Bucket {
    std::vector<at::Tensor> parameters;
    size_t missing = 0;  ///< gradients that are not complete yet
  };
  struct Hook;

  void completed(size_t bucket);
  void send(const Bucket& bucket);

  Group& group_;
  std::optional<at::ScalarType> dtype_;
  std::vector<Bucket> buckets_;
  size_t sent_ = 0;
  bool started_ = false;
  std::vector<std::function<void()>> waits_;
};

}  // namespace pgolf
