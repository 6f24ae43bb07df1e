// Model replicas for threads that each process their own micro-batches.
#pragma once

#include <functional>
#include <vector>

#include "pgolf/model/gpt.h"

namespace pgolf {

/// They share the memory of the weights; each has its own gradients and its own data that the fast path derives from the weights.
class Replicas {
 public:
  /// count >= 1; the first one is the model itself. Does not advance the random generator.
  Replicas(Gpt model, OpsPath path, int count);

  /// Calls f(replica, i) for micro-batches 0 .. micro_batches-1. Replica i % count processes micro-batch i, each replica in order
  /// and on its own thread. Then sums all replicas' gradients, in replica order, into the model's. A single replica uses all
  /// threads.
  void run(int64_t micro_batches, const std::function<void(Gpt&, int64_t)>& f);

  /// GptImpl's, of all of them.
  void set_extra_passes(int passes);
  void drop_rotation();

 private:
  std::vector<Gpt> models_;
};

}  // namespace pgolf
