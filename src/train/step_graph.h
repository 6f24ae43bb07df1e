// The device work of a step as a CUDA graph: recorded once, then started by one call instead of thousands.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

namespace pgolf {

/// Whether a run's steps are recorded. Its graphs share one: where one of them can't be recorded, none is.
using GraphSwitch = std::shared_ptr<bool>;

/// For work that always does the same on the same memory: what changes from call to call is in device memory before run().
class StepGraph {
 public:
  /// The addresses that a recording holds on to.
  using Memory = std::function<std::vector<const void*>()>;

  /// Switched off, or a build without CUDA: run() just calls.
  StepGraph(GraphSwitch enabled, Memory memory);
  ~StepGraph();

  /// The first call does the work as it is, so that every library has made its plans and buffers. The second one does it,
  /// records it, and replays the recording; if `result` then differs from what it was by more than 2 % of its largest entry, or
  /// if recording failed, it warns, does the work again and switches recording off. Later calls replay, or record anew if the
  /// memory is another than when that was done. Doing the work twice must be the same as doing it once. result: 0-dim or more,
  /// float32, written by the work; undefined: nothing is compared, and the second call only records and replays.
  void run(const std::function<void()>& work, const at::Tensor& result = {});

 private:
  void record(const std::function<void()>& work, const at::Tensor& result);

  struct Recording;
  GraphSwitch enabled_;
  Memory memory_;
  int calls_ = 0;
  std::unique_ptr<Recording> recording_;  ///< a failed one is kept: what it left in its memory pool may still be referred to
};

}  // namespace pgolf
