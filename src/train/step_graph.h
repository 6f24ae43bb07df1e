// A step's device work as a CUDA graph: recorded once, then launched by one call instead of thousands.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

namespace pgolf {

/// Whether a run uses graphs. Shared by all its graphs: if one cannot be recorded, none is used.
using GraphSwitch = std::shared_ptr<bool>;

/// For work that does the same on the same memory in every call: inputs that change must be in device memory before run().
class StepGraph {
 public:
  /// The addresses that a recording depends on.
  using Memory = std::function<std::vector<const void*>()>;

  /// Whether it is true on any rank. All call it together.
  using Agree = std::function<bool(bool)>;

  /// If disabled, or built without CUDA, run() just calls work.
  StepGraph(GraphSwitch enabled, Memory memory, Agree agree);
  ~StepGraph();

  /// The first call runs the work directly, so that libraries create their plans and buffers. The second call records it and
  /// replays the recording. With a `result` (float32, written by the work, which must be idempotent) it first runs the work for
  /// comparison. If the replayed result differs by more than 2 % of its largest entry, or if recording failed, on any rank, it
  /// warns, runs the work directly, and disables graphs on all ranks. Later calls replay, or record again if the memory has
  /// changed since.
  void run(const std::function<void()>& work, const at::Tensor& result = {});

  /// From here on the work is another one: the next call is again the first.
  void forget();

 private:
  void record(const std::function<void()>& work, const at::Tensor& result);
  /// Frees the recording with its memory.
  void drop();

  struct Recording;
  GraphSwitch enabled_;
  Memory memory_;
  Agree agree_;
  int calls_ = 0;
  std::unique_ptr<Recording> recording_;
};

}  // namespace pgolf
