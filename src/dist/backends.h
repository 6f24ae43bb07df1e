// LibTorch's process groups, each behind a function of its own: their headers are slow, and gloo's need src/dist/gloo_headers.
#pragma once

#include <chrono>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace pgolf {

using StorePtr = c10::intrusive_ptr<c10d::Store>;
using BackendPtr = c10::intrusive_ptr<c10d::Backend>;

struct BackendPlace {
  StorePtr store;  ///< of this group's own prefix
  int rank, world_size;
  std::chrono::milliseconds timeout;
};

/// address: the local one that other processes connect to; interface: that one's address instead, unless "".
BackendPtr make_gloo(const BackendPlace& place, const std::string& address, const std::string& interface);

/// For tensors of the current CUDA device. address: the local one that other processes connect to. Waits for ever: Liveness ends
/// a job that has lost a process. Error(unavailable) in a build without NCCL.
BackendPtr make_nccl(const BackendPlace& place, const std::string& address);

/// Whether the current CUDA stream records a graph. Only where make_nccl() has been called.
bool is_recording();

}  // namespace pgolf
