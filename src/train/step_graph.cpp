#include "step_graph.h"

#include <torch/types.h>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"

#ifdef PGOLF_WITH_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

namespace pgolf {

#ifdef PGOLF_WITH_CUDA

struct StepGraph::Recording {
  at::cuda::CUDAGraph graph;
  std::vector<const void*> memory;
};

StepGraph::StepGraph(GraphSwitch enabled, Memory memory) : enabled_(std::move(enabled)), memory_(std::move(memory)) {}

void StepGraph::record(const std::function<void()>& work, const at::Tensor& result) {
  at::Tensor expected;
  if (result.defined()) {
    work();
    expected = result.clone();
  }
  auto recording = std::make_unique<Recording>();
  std::string problem;
  recording->memory = memory_();
  c10::cuda::device_synchronize();
  // A recording allocates from its own pool, so memory that the allocator caches from this step would be reserved twice.
  c10::cuda::CUDACachingAllocator::emptyCache();
  try {
    recording->graph.capture_begin();
    try {
      work();
    } catch (...) {
      // A stream left in capture mode would reject all further work.
      try {
        recording->graph.capture_end();
      } catch (const std::exception&) {
      }
      throw;
    }
    recording->graph.capture_end();
    recording->graph.replay();
    if (result.defined()) {
      const double largest = expected.abs().max().item<double>(), difference = (result - expected).abs().max().item<double>();
      // Far above the effect of bfloat16 and summation order on a loss, far below that of stale inputs.
      if (!(difference <= 0.02 * largest))
        problem = format("the replayed losses differ from the eager ones by %g; the largest is %g", difference, largest);
    }
  } catch (const std::exception& error) {
    problem = error.what();
    problem = problem.substr(0, problem.find('\n'));
  }
  recording_ = std::move(recording);
  if (problem.empty()) return;
  log::warn("CUDA_GRAPHS: a step could not be recorded; running without graphs: " + problem);
  *enabled_ = false;
  work();
}

void StepGraph::run(const std::function<void()>& work, const at::Tensor& result) {
  if (!*enabled_ || calls_++ == 0) return work();
  if (recording_ != nullptr && recording_->memory != memory_()) {
    c10::cuda::device_synchronize();
    recording_.reset();
  }
  if (recording_ == nullptr) return record(work, result);
  recording_->graph.replay();
}

void StepGraph::forget() {
  calls_ = 0;
  if (recording_ == nullptr) return;
  c10::cuda::device_synchronize();
  recording_.reset();
}

#else

struct StepGraph::Recording {};

StepGraph::StepGraph(GraphSwitch enabled, Memory memory) : enabled_(std::move(enabled)), memory_(std::move(memory)) {}

void StepGraph::run(const std::function<void()>& work, const at::Tensor&) {
  work();
}

void StepGraph::forget() {}

#endif

StepGraph::~StepGraph() = default;

}  // namespace pgolf
