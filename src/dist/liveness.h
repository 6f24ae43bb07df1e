// Whether the other processes of a job are still there.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backends.h"
#include "pgolf/base/error.h"
#include "pgolf/dist/process.h"

namespace pgolf {

/// Each process sets a counter of its own in the store twice a second and reads those of the others, in a thread. A counter that
/// stands still for the timeout is a lost process; one that leaves with an error writes it in the counter's place.
class Liveness {
 public:
  /// store: a connection of its own. All processes must have come here before start().
  Liveness(const Process& process, StorePtr store, std::chrono::milliseconds timeout);
  ~Liveness();
  void start();

  /// Which process was lost, as an error to report; waits until that is known. Called when a collective has failed: a counter
  /// need then stand still for seconds only.
  Error verdict(const std::string& failure);

  /// Nobody is missed from now on.
  void stop();
  /// Tells the others why this process ends, within seconds. False if rank 0 reports the same.
  bool leave(const Error& error);

 private:
  using Clock = std::chrono::steady_clock;
  struct Peer {
    std::string value;
    Clock::time_point changed;
  };

  void watch();
  void exchange(const std::string& own);
  std::optional<Error> lost(Clock::duration patience) const;
  std::string name_of(int rank) const;

  Process process_;
  StorePtr store_;
  std::chrono::milliseconds timeout_;
  std::vector<std::string> keys_, hosts_;
  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::vector<Peer> peers_;
  Clock::time_point answered_;  ///< when the store last did
  bool broken_ = false;         ///< the connection to the store
  std::string last_words_;      ///< in the counter's place, once this process leaves
  bool told_ = false;           ///< they are in the store
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace pgolf
