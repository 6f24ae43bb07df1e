// Copies of a model for threads that each work on a pass of their own.
#pragma once

#include <functional>
#include <vector>

#include "pgolf/model/gpt.h"

namespace pgolf {

/// They share the memory of the weights; gradients, and what the fast path derives from the weights, they have for themselves.
class Replicas {
 public:
  /// count >= 1; the first one is the model. Draws nothing from the generator.
  Replicas(Gpt model, OpsPath path, int count);

  /// f(replica, pass) for passes 0 .. passes-1: pass i is done by replica i % count, a replica's passes in order, all replicas at
  /// once, a thread each. Then the model's gradients are the sum of all replicas', added up in their order. One replica has
  /// all threads to itself.
  void run(int64_t passes, const std::function<void(Gpt&, int64_t)>& f);

 private:
  std::vector<Gpt> models_;
};

}  // namespace pgolf
