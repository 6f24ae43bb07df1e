#include "step_graph.h"

#include <torch/types.h>

#include <cmath>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"

#ifdef PGOLF_WITH_CUDA
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

namespace pgolf {

#ifdef PGOLF_WITH_CUDA

struct StepGraph::Recording {
  at::cuda::CUDAGraph graph;
  at::cuda::MempoolId_t pool = at::cuda::graph_pool_handle();
  std::vector<const void*> memory;

  void capture(const std::function<void()>& work) {
    graph.capture_begin(pool);
    try {
      work();
    } catch (...) {
      // A stream left in capture mode would reject all further work.
      try {
        graph.capture_end();
      } catch (const std::exception&) {
        // It ended the capture, but not the allocators' use of the pool.
        c10::cuda::CUDACachingAllocator::endAllocateToPool(c10::cuda::current_device(), pool);
        at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool);
      }
      throw;
    }
    graph.capture_end();
  }
};

StepGraph::StepGraph(GraphSwitch enabled, Memory memory, Agree agree)
    : enabled_(std::move(enabled)), memory_(std::move(memory)), agree_(std::move(agree)) {}

namespace {

/// Empty if they are equal, or if there is nothing to compare with.
std::string difference_of(const at::Tensor& replayed, const at::Tensor& expected) {
  const double largest = expected.abs().max().item<double>(), difference = (replayed - expected).abs().max().item<double>();
  // Far above the effect of bfloat16 and summation order on a loss, far below that of stale inputs.
  if (!std::isfinite(largest) || difference <= 0.02 * largest) return "";
  return format("the replayed losses differ from the eager ones by %g; the largest is %g", difference, largest);
}

}  // namespace

void StepGraph::record(const std::function<void()>& work, const at::Tensor& result) {
  at::Tensor expected;
  if (result.defined()) {
    work();
    expected = result.clone();
  }
  recording_ = std::make_unique<Recording>();
  recording_->memory = memory_();
  c10::cuda::device_synchronize();
  // A recording allocates from its own pool, so memory that the allocator caches from this step would be reserved twice.
  c10::cuda::CUDACachingAllocator::emptyCache();
  std::string problem;
  try {
    recording_->capture(work);
    recording_->graph.replay();
    if (result.defined()) problem = difference_of(result, expected);
  } catch (const std::exception& error) {
    problem = error.what();
    problem = problem.substr(0, problem.find('\n'));
    work();  // the others replay its collectives
  }
  if (!agree_(!problem.empty())) return;
  log::warn("CUDA_GRAPHS: a step could not be recorded; running without graphs: " +
            (problem.empty() ? "another process could not" : problem));
  *enabled_ = false;
  if (result.defined()) work();
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

StepGraph::StepGraph(GraphSwitch enabled, Memory memory, Agree agree)
    : enabled_(std::move(enabled)), memory_(std::move(memory)), agree_(std::move(agree)) {}

void StepGraph::run(const std::function<void()>& work, const at::Tensor&) {
  work();
}

void StepGraph::forget() {}

#endif

StepGraph::~StepGraph() = default;

}  // namespace pgolf
