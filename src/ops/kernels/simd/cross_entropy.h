// softcap_cross_entropy.
#pragma once

#include "exp.h"

namespace pgolf::ops {
namespace {

/// tanh and its derivative, without cancellation: with m = expm1(2|x|), tanh|x| = m / (m + 2), 1 - tanh|x| = 2 / (m + 2).
/// Measured over the whole range: within 3 units in the last place, the derivative within 4.
struct Tanh {
  Floats value, derivative;
};
PGOLF_INLINE Tanh tanh_of(Floats x) {
  const Bits sign = (Bits)x & 0x80000000u;
  const Floats magnitude = (Floats)((Bits)x ^ sign);
  const Exponential e = exponential(magnitude > 20.0f ? all(40.0f) : 2 * magnitude);
  const Floats m = (e.scale - 1) + e.scale * e.fraction;
  const Floats inverse = 1 / (m + 2);
  const Floats value = m * inverse;
  return {(Floats)((Bits)value | sign), 2 * inverse * (1 + value)};
}

PGOLF_INLINE void store_one(float& to, float x) {
  to = x;
}
PGOLF_INLINE void store_one(Bf16& to, float x) {
  to.bits = to_bf16(all(x))[0];
}

/// kCapped: z = tanh(logits / cap), else z = logits and cap is 1; the softmax is that of cap * z.
template <bool kCapped, class T>
PGOLF_INLINE void cross_entropy(const T* logits, const int64_t* targets, float cap, float grad_scale, float* loss, T* gradient,
                                float* scratch, int64_t rows, int64_t vocab) {
  float* const zs = scratch;  // then their exponentials
  float* const slopes = scratch + vocab;
  const float inverse_cap = 1 / cap, smallest = kCapped ? -1 : -__builtin_inff();
  for (int64_t row = 0; row < rows; ++row, logits += vocab) {
    Floats maxima = all(smallest);
    for_lanes(vocab, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats x = load(logits + i, part);
      const Tanh t = kCapped ? tanh_of(x * inverse_cap) : Tanh{x, all(1)};
      store(zs + i, t.value, part);
      store(slopes + i, t.derivative, part);
      const Floats value = keep(t.value, smallest, part);
      maxima = value > maxima ? value : maxima;
    });
    const float largest = max_of(maxima), target = zs[targets[row]];
    Floats sums = {};
    for_lanes(vocab, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats e = exp_of_nonpositive(cap * (load(zs + i, part) - largest));
      store(zs + i, e, part);
      sums += keep(e, 0, part);
    });
    const float sum = sum_of(sums);
    loss[row] = __builtin_logf(sum) + cap * (largest - target);
    if (gradient == nullptr) continue;
    const float per_sum = grad_scale / sum;
    for_lanes(vocab, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      store(gradient + i, load(zs + i, part) * per_sum * load(slopes + i, part), part);
    });
    const int64_t t = targets[row];
    store_one(gradient[t], (zs[t] - sum) * per_sum * slopes[t]);
    gradient += vocab;
  }
}

template <class T>
void softcap_cross_entropy(const T* logits, const int64_t* targets, float cap, float grad_scale, float* loss, T* gradient,
                           float* scratch, int64_t rows, int64_t vocab) {
  if (cap > 0) {
    cross_entropy<true>(logits, targets, cap, grad_scale, loss, gradient, scratch, rows, vocab);
  } else {
    cross_entropy<false>(logits, targets, 1, grad_scale, loss, gradient, scratch, rows, vocab);
  }
}

}  // namespace
}  // namespace pgolf::ops
