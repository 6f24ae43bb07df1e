// What the processes of a training job do together.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/config/run_config.h"
#include "pgolf/dist/process.h"

namespace pgolf {

/// Collective calls: every process makes the same ones, in the same order, with tensors of the same shapes and dtypes. A job of
/// one process needs no connection, and every call leaves its values as they are. NCCL on CUDA devices, gloo on the CPU, both
/// LibTorch's. After Error(peer_lost) nothing but leave() may be called.
///
/// A thread of every process watches the others' heartbeats. Where one stops for DIST_TIMEOUT_SECONDS, or a process leaves with
/// an error, the calls below throw Error(peer_lost) that names it; a process that is stuck in one, or in its own work, is ended
/// with that message seconds later.
class Group {
 public:
  /// A job of one process.
  Group();
  /// Meets the others and returns when all are there. device: where tensors of sum_ and broadcast_ are.
  /// Error(unavailable): DIST_BACKEND=nccl in a build or on a device without it. Error(peer_lost): not all came in time.
  Group(const Process& process, const DistConfig& config, at::Device device);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  const Process& process() const { return process_; }
  int rank() const { return process_.rank(); }
  int world_size() const { return process_.world_size(); }
  bool is_master() const { return process_.is_master(); }
  /// This rank's part of so many things in order: [first, end). All parts together are everything once.
  std::pair<int64_t, int64_t> share(int64_t count) const {
    return {count * rank() / world_size(), count * (rank() + 1) / world_size()};
  }
  /// Whether the calls below talk to anyone.
  bool connected() const { return peers_ != nullptr; }
  /// "none", "gloo" or "nccl".
  const char* backend() const;
  /// start_sum and start_broadcast are work on the device's stream, which a CUDA graph can record. False: they go through the
  /// host.
  bool on_device() const;

  /// Completes a call that goes on in the background. Until it has returned, nothing else may use the tensors.
  using Wait = std::function<void()>;

  /// Each tensor becomes its sum over processes, summed in dtype (by default its own). The sum is the same on every rank, bit for
  /// bit.
  [[nodiscard]] Wait start_sum(const std::vector<at::Tensor>& tensors, std::optional<at::ScalarType> dtype = std::nullopt);
  /// Tensor i becomes that of rank owner(i).
  [[nodiscard]] Wait start_broadcast(const std::vector<at::Tensor>& tensors, const std::function<int(size_t)>& owner);

  void sum_(const std::vector<at::Tensor>& tensors, std::optional<at::ScalarType> dtype = std::nullopt) {
    start_sum(tensors, dtype)();
  }
  void broadcast_(const std::vector<at::Tensor>& tensors, const std::function<int(size_t)>& owner) {
    start_broadcast(tensors, owner)();
  }
  /// Every tensor becomes rank 0's.
  void broadcast_(const std::vector<at::Tensor>& tensors) {
    broadcast_(tensors, [](size_t) { return 0; });
  }

  // Of host values; small, for decisions.
  std::vector<double> sum(std::vector<double> values);
  std::vector<double> max(std::vector<double> values);
  std::string broadcast(std::string text);  ///< rank 0's
  void barrier();

  /// Error(internal), naming it and the rank, unless every tensor has the same bytes on all ranks.
  void require_equal(const std::vector<std::pair<std::string, at::Tensor>>& tensors);

  /// This process is done: waits for the others. From here on nobody is missed.
  void finish();
  /// This process ends with an error: tells the others, prints it unless rank 0 prints the same, and ends with its exit code,
  /// without destructors, which could wait for a lost process. A job of one returns.
  void leave(const Error& error);

 private:
  struct Peers;
  Process process_;
  std::unique_ptr<Peers> peers_;
};

}  // namespace pgolf
