#include "step_graph.h"

#include <torch/types.h>

#include <cmath>

#include "pgolf/base/error.h"
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
    try {
      graph.capture_begin(pool);
      work();
      graph.capture_end();
    } catch (...) {
      abandon();
      throw;
    }
  }

 private:
  static bool succeeds(const std::function<void()>& call) {
    try {
      call();
    } catch (const std::exception&) {
      return false;
    }
    return true;
  }

  /// Undoes what a failed capture has begun: the stream's capture mode, in which it would reject all further work, and the
  /// allocators' use of the pool. A call whose part was not begun, or is over, throws.
  void abandon() {
    const auto device = c10::cuda::current_device();
    auto* const host = at::getHostAllocator(at::kCUDA);
    succeeds([&] { graph.capture_end(); });
    succeeds([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool); });
    succeeds([&] { host->end_allocate_to_pool(pool); });
    if (succeeds([&] { graph.pool(); })) return;  // it ended, so the graph's destructor releases the pool
    succeeds([&] { c10::cuda::CUDACachingAllocator::releasePool(device, pool); });
    succeeds([&] { host->release_pool(pool); });
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
  } catch (const Error&) {
    throw;  // a lost process, for example
  } catch (const std::exception& error) {
    problem = error.what();
    problem = problem.substr(0, problem.find('\n'));
    drop();
    work();  // the others replay its collectives
  }
  if (!agree_(!problem.empty())) return;
  log::warn("CUDA_GRAPHS: a step could not be recorded; running without graphs: " +
            (problem.empty() ? "another process could not" : problem));
  *enabled_ = false;
  drop();
  if (result.defined()) work();
}

void StepGraph::drop() {
  if (recording_ == nullptr) return;
  c10::cuda::device_synchronize();
  recording_.reset();
  c10::cuda::CUDACachingAllocator::emptyCache();
}

void StepGraph::run(const std::function<void()>& work, const at::Tensor& result) {
  if (!*enabled_) drop();  // another graph could not be recorded
  if (!*enabled_ || calls_++ == 0) return work();
  if (recording_ != nullptr && recording_->memory != memory_()) drop();
  if (recording_ == nullptr) return record(work, result);
  recording_->graph.replay();
}

void StepGraph::forget() {
  calls_ = 0;
  drop();
}

#else

struct StepGraph::Recording {};

StepGraph::StepGraph(GraphSwitch enabled, Memory memory, Agree agree)
    : enabled_(std::move(enabled)), memory_(std::move(memory)), agree_(std::move(agree)) {}

void StepGraph::run(const std::function<void()>& work, const at::Tensor&) {
  work();
}

void StepGraph::forget() {}

void StepGraph::drop() {}

#endif

StepGraph::~StepGraph() = default;

}  // namespace pgolf
