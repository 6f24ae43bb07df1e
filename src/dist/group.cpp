#include "pgolf/dist/group.h"

#include <ATen/ops/cat.h>
#include <c10/util/Flags.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "backends.h"
#include "liveness.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "rendezvous.h"

C10_DECLARE_int(caffe2_log_level);

namespace pgolf {
namespace {

/// Bytes that travel at once: large enough for a link's full speed, small enough that several are on their way.
constexpr int64_t kBucketBytes = int64_t{32} << 20;

constexpr int kEveryRank = -1;

/// How long a process may be silent with NCCL, whose collectives wait for a lost one without an error. A process reports from a
/// thread of its own, so that it is not silent while it works.
constexpr std::chrono::milliseconds kNcclPatience{20'000};

/// Some of a list of tensors, of one dtype, one after the other in memory.
struct Bucket {
  std::vector<at::Tensor> parts;
  at::Tensor flat;
  int owner = kEveryRank;  ///< whose values these are

  void pack(at::ScalarType dtype) {
    std::vector<at::Tensor> rows;
    for (const auto& part : parts) rows.push_back(part.reshape({-1}));
    flat = at::cat(rows).to(dtype);
  }
  void unpack() const {
    int64_t at = 0;
    for (const auto& part : parts) {
      part.copy_(flat.narrow(0, at, part.numel()).view_as(part));
      at += part.numel();
    }
  }
};

/// In the order of the tensors; one bucket has one dtype and one owner.
std::vector<Bucket> buckets_of(const std::vector<at::Tensor>& tensors, const std::function<int(size_t)>& owner) {
  std::vector<Bucket> buckets;
  std::map<std::pair<at::ScalarType, int>, size_t> open;
  std::vector<int64_t> bytes;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].numel() == 0) continue;
    const auto key = std::make_pair(tensors[i].scalar_type(), owner(i));
    const auto found = open.find(key);
    if (found == open.end() || bytes[found->second] >= kBucketBytes) {
      open[key] = buckets.size();
      buckets.emplace_back().owner = key.second;
      bytes.push_back(0);
    }
    buckets[open[key]].parts.push_back(tensors[i]);
    bytes[open[key]] += static_cast<int64_t>(tensors[i].nbytes());
  }
  return buckets;
}

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(1000 * seconds));
}

/// Ends the process if the processes do not come together in time: not every wait of a rendezvous has a limit of its own.
class Deadline {
 public:
  Deadline(std::chrono::milliseconds time, Error error)
      : thread_([this, time, error = std::move(error)] {
          std::unique_lock lock(mutex_);
          if (met_.wait_for(lock, time, [this] { return done_; })) return;
          print_error(error);
          ::_exit(static_cast<int>(error.code()));
        }) {}
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    met_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable met_;
  bool done_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace

struct Group::Peers {
  Peers(const Process& process, const DistConfig& config, at::Device device) {
    // LibTorch's warnings about connections: what they lead to is told by an error of ours.
    if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = std::max(FLAGS_caffe2_log_level, 2);
    const auto timeout = milliseconds(config.timeout_seconds);
    const bool nccl = config.backend == DistBackend::nccl || (config.backend == DistBackend::automatic && device.is_cuda());
    if (nccl && !device.is_cuda()) {
      throw Error(ExitCode::unavailable, "DIST_BACKEND=nccl, but the run is not on a CUDA device", "use DIST_BACKEND=auto");
    }
    const Error apart(ExitCode::peer_lost,
                      format("rank %d on %s: not all %d processes came together within %g s", process.rank(), host_name().c_str(),
                             process.world_size(), config.timeout_seconds),
                      "see the messages of the other ranks, and check MASTER_ADDR and MASTER_PORT");
    const Deadline deadline(timeout + std::chrono::seconds(5), apart);
    const StorePtr store = open_store(process, timeout);
    const auto place = [&](const char* prefix) {
      return BackendPlace{c10::make_intrusive<c10d::PrefixStore>(prefix, store), process.rank(), process.world_size(), timeout};
    };
    const char* const interface = std::getenv("GLOO_SOCKET_IFNAME");
    const std::string address = process.world_size() == 1 ? "127.0.0.1" : address_towards(process.master_addr());
    liveness =
        std::make_unique<Liveness>(process, open_store(process, timeout), nccl ? std::min(timeout, kNcclPatience) : timeout);
    try {
      host = make_gloo(place("gloo"), address, interface != nullptr ? interface : "");
      device_backend = nccl ? make_nccl(place("nccl"), address) : host;
    } catch (const Error&) {
      throw;
    } catch (const std::exception&) {
      throw apart;
    }
    liveness->start();
  }

  /// What a collective throws when a process is lost becomes an error that names it. This device's own errors stay.
  template <class F>
  auto guarded(const F& f) {
    try {
      return f();
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const c10::AcceleratorError&) {
      throw;
    } catch (const c10::Error& e) {
      if (device_backend != host && is_recording()) throw;  // what cannot be recorded is run without a recording
      throw liveness->verdict(e.what_without_backtrace());
    } catch (const std::exception& e) {
      throw liveness->verdict(e.what());
    }
  }

  using WorkPtr = c10::intrusive_ptr<c10d::Work>;

  /// Sends every bucket; what is returned waits for them and stores what this process does not have.
  Wait start(std::vector<Bucket> buckets, std::optional<at::ScalarType> dtype,
             const std::function<WorkPtr(const Bucket&)>& send) {
    at::NoGradGuard no_grad;
    std::vector<WorkPtr> works;
    guarded([&] {
      for (auto& bucket : buckets) {
        bucket.pack(dtype.value_or(bucket.parts[0].scalar_type()));
        works.push_back(send(bucket));
      }
    });
    return [this, buckets = std::move(buckets), works = std::move(works)] {
      at::NoGradGuard no_grad;
      guarded([&] {
        for (size_t i = 0; i < works.size(); ++i) {
          works[i]->wait();
          if (buckets[i].owner != device_backend->getRank()) buckets[i].unpack();
        }
      });
    };
  }

  std::vector<double> all_reduce(std::vector<double> values, c10d::ReduceOp::RedOpType op) {
    std::vector<at::Tensor> tensor{torch::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kDouble)};
    c10d::AllreduceOptions options;
    options.reduceOp = op;
    guarded([&] { host->allreduce(tensor, options)->wait(); });
    return values;
  }

  std::unique_ptr<Liveness> liveness;
  BackendPtr host;            ///< for what is on the host
  BackendPtr device_backend;  ///< for what is on the device
};

Group::Group() = default;
Group::Group(const Process& process, const DistConfig& config, at::Device device) : process_(process) {
  if (process.world_size() > 1 || config.backend != DistBackend::automatic) {
    peers_ = std::make_unique<Peers>(process, config, device);
    barrier();
  }
}
Group::~Group() = default;

const char* Group::backend() const {
  return !connected() ? "none" : on_device() ? "nccl" : "gloo";
}

bool Group::on_device() const {
  return connected() && peers_->device_backend != peers_->host;
}

Group::Wait Group::start_sum(const std::vector<at::Tensor>& tensors, std::optional<at::ScalarType> dtype) {
  if (!connected()) return [] {};
  return peers_->start(buckets_of(tensors, [](size_t) { return kEveryRank; }), dtype, [this](const Bucket& bucket) {
    std::vector<at::Tensor> flat{bucket.flat};
    return peers_->device_backend->allreduce(flat);
  });
}

Group::Wait Group::start_broadcast(const std::vector<at::Tensor>& tensors, const std::function<int(size_t)>& owner) {
  if (!connected()) return [] {};
  return peers_->start(buckets_of(tensors, owner), std::nullopt, [this](const Bucket& bucket) {
    std::vector<at::Tensor> flat{bucket.flat};
    c10d::BroadcastOptions options;
    options.rootRank = bucket.owner;
    return peers_->device_backend->broadcast(flat, options);
  });
}

std::vector<double> Group::sum(std::vector<double> values) {
  return connected() ? peers_->all_reduce(std::move(values), c10d::ReduceOp::SUM) : values;
}

std::vector<double> Group::max(std::vector<double> values) {
  return connected() ? peers_->all_reduce(std::move(values), c10d::ReduceOp::MAX) : values;
}

std::string Group::broadcast(std::string text) {
  if (!connected()) return text;
  const auto length = static_cast<int64_t>(sum({is_master() ? static_cast<double>(text.size()) : 0.0})[0]);
  if (length == 0) return "";
  text.resize(static_cast<size_t>(length));
  std::vector<at::Tensor> bytes{torch::from_blob(text.data(), {length}, at::kByte)};
  peers_->guarded([&] { peers_->host->broadcast(bytes)->wait(); });
  return text;
}

void Group::barrier() {
  sum({0});
}

void Group::require_equal(const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  if (!connected()) return;
  // Two of 24 bits each per tensor, which doubles hold exactly: equal on all ranks where maximum and minimum are.
  std::vector<double> digests;
  for (const auto& [name, tensor] : tensors) {
    const auto bytes = tensor.detach().cpu().contiguous();
    const std::string hex =
        sha256_hex({static_cast<const std::byte*>(bytes.const_data_ptr()), static_cast<size_t>(bytes.nbytes())});
    for (const size_t at : {0, 6}) digests.push_back(static_cast<double>(std::stoul(hex.substr(at, 6), nullptr, 16)));
  }
  std::vector<double> both = digests;
  for (const double digest : digests) both.push_back(-digest);
  both = max(std::move(both));
  for (size_t i = 0; i < digests.size(); ++i) {
    if (both[i] == -both[digests.size() + i]) continue;
    throw Error(ExitCode::internal, format("%s differs between ranks", tensors[i / 2].first.c_str()),
                "equal processors and builds on all hosts are needed; else this is a mistake in the program");
  }
}

void Group::finish() {
  if (!connected()) return;
  peers_->liveness->stop();
  barrier();
}

void Group::leave(const Error& error) {
  if (!connected()) return;
  if (peers_->liveness->leave(error)) print_error(error);
  // Ending in order would wait for a lost process.
  ::_exit(static_cast<int>(error.code()));
}

}  // namespace pgolf
