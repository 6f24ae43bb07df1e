// How a next token is drawn. Free of LibTorch, for those who only pass it on.
#pragma once

#include <cstdint>

namespace pgolf {

struct SamplingOptions {
  double temperature = 0.8;  ///< 0 (or below kGreedyBelow) = always the likeliest token
  int top_k = 50;            ///< sample among the k likeliest; 0 = all
  double top_p = 1;          ///< of those, among the likeliest whose probabilities first reach p in sum; 0 < p <= 1
  int64_t seed = 1;
};

/// Logits divided by less would overflow, and a token that is likelier by 1e-4 nats has all the probability already.
inline constexpr double kGreedyBelow = 1e-6;

}  // namespace pgolf
