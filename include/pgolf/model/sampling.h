// Sampling options. Free of LibTorch, for code that only passes them on.
#pragma once

#include <cstdint>

namespace pgolf {

struct SamplingOptions {
  double temperature = 0.8;  ///< 0 (or below kGreedyBelow) = greedy; at most kMaxTemperature
  int top_k = 50;            ///< sample from the k most likely tokens; 0 = all
  double top_p = 1;          ///< of those, from the smallest set of most likely ones whose total reaches p; 0 < p <= 1
  int64_t seed = 1;          ///< its lower 32 bits count
};

/// Dividing logits by less could overflow; at this temperature a lead of 1e-4 nats already gives a token all the probability.
inline constexpr double kGreedyBelow = 1e-6;
/// Beyond it the choice is all but uniform.
inline constexpr double kMaxTemperature = 100;

}  // namespace pgolf
