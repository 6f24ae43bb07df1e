// Muon's update of weight matrices (Keller Jordan 2024; upstream's class Muon).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops {

/// All three [R, C] float32 on one device.
struct MuonMatrix {
  at::Tensor parameter, gradient, momentum_buffer;
};

struct MuonStep {
  double momentum;
  double lr;
  int backend_steps;     ///< Newton-Schulz iterations
  at::ScalarType dtype;  ///< of Newton-Schulz and of the update before it is added
  double weight_decay = 0;
  bool normalize_rows = false;
  /// momentum, lr and keep() as float32 scalars on a CUDA device, read instead of the numbers so that a captured graph sees their
  /// current values when replayed. Undefined elsewhere.
  at::Tensor device_momentum = {}, device_lr = {}, device_keep = {};

  double keep() const { return 1 - lr * weight_decay; }  ///< what a step leaves of a parameter before the update
};

/// For each matrix, in place:
///   momentum_buffer = momentum * momentum_buffer + gradient
///   g = gradient + momentum * momentum_buffer
///   if normalize_rows, each row of g is divided by max(its norm, 1e-7), in float32
///   parameter = (1 - lr * weight_decay) * parameter - lr * sqrt(max(1, R/C)) * newton_schulz(g)
void muon_update_(const std::vector<MuonMatrix>& matrices, const MuonStep& step, OpsPath path);

}  // namespace pgolf::ops
