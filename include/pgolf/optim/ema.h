// A running mean of the weights.
#pragma once

#include "pgolf/model/gpt.h"
#include "pgolf/model/state_dict.h"

namespace pgolf {

/// An exponential moving average of every parameter, in float32 whatever the parameter's dtype. It begins with the parameters at
/// construction. With decay 0 there is none: nothing is stored, and the functions do nothing.
class WeightAverage {
 public:
  /// 0 <= decay < 1.
  WeightAverage(Gpt& model, double decay);

  bool enabled() const { return decay_ > 0; }

  /// The average is the parameters as they are now.
  void restart();

  /// average = decay * average + (1 - decay) * parameters. Device work only: can be captured in a CUDA graph.
  void update();

  /// The average, each tensor in its parameter's dtype.
  void copy_to_model();

  /// Under "ema.NAME". Tensors are the live state.
  StateDict state() const;

 private:
  double decay_;
  StateDict parameters_;              ///< the model's own
  std::vector<at::Tensor> averages_;  ///< in the same order
};

}  // namespace pgolf
