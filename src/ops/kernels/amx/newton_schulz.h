// Muon's update of one matrix on AMX tiles, single-threaded: many matrices share the threads without waiting for one
// another. Call only if amx_usable().
#pragma once

#include "../kernels.h"

namespace pgolf::ops::amx {

/// buffer = momentum * buffer + gradient; x = gradient + momentum * buffer, rounded. Returns the sum of the squares of x.
double nesterov(const float* gradient, float* buffer, float momentum, Bf16* x, int64_t count);

/// x = x * factor, rounded.
void scale(Bf16* x, float factor, int64_t count);

/// parameter += alpha * (x * factor rounded).
void add_update(float* parameter, const Bf16* x, float factor, float alpha, int64_t count);

/// Elements of scratch that newton_schulz needs.
int64_t newton_schulz_scratch(int64_t rows, int64_t columns);

/// The iteration of include/pgolf/ops/newton_schulz.h on x [rows, columns] in place, x already divided by its norm; rows and
/// columns multiples of 32. Where rows > columns it works on x^T x instead of x x^T, so that nothing is transposed. Each
/// product is rounded once with its sum (the definition rounds b A, c A, their products and sums one by one), and of the two
/// symmetric products one half is computed.
void newton_schulz(Bf16* x, int64_t rows, int64_t columns, int steps, Bf16* scratch);

}  // namespace pgolf::ops::amx
