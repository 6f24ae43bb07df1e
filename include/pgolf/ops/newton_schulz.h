// Orthogonalization of a gradient matrix by a quintic Newton-Schulz iteration (Muon, Keller Jordan 2024;
// upstream's zeropower_via_newtonschulz5).
#pragma once

#include <ATen/core/Tensor.h>

namespace pgolf::ops {

/// X = G / (|G|_F + 1e-7), transposed if rows > cols; `steps` times
///   A = X X^T,  B = b A + (c A) A,  X = a X + B X   with (a, b, c) = (3.4445, -4.7750, 2.0315);
/// transposed back. Everything, the norm included, is computed in and rounded to dtype.
/// gradient [R, C] float32 -> [R, C] of dtype.
at::Tensor newton_schulz(const at::Tensor& gradient, int steps, at::ScalarType dtype);

}  // namespace pgolf::ops
