// Compiled once per instruction set with PGOLF_ISA naming it (src/CMakeLists.txt), under the rules of lanes.h.
#include "lanes.h"

namespace pgolf::ops {
namespace {

constexpr float kEps = 1.1920929e-07f;

/// e^x = scale * (1 + fraction), with scale a power of two and |log(1 + fraction)| <= log(2) / 2; -87.3 <= x <= 88.
/// The Taylor series to r^7 leaves less than 1e-8. Measured over the whole range: exp below is within 1.1 units in the last
/// place, tanh within 3 and its derivative within 4.
struct Exponential {
  Floats scale, fraction;
};
PGOLF_INLINE Exponential exponential(Floats x) {
  constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits
  const Floats shifted = x * 1.44269504f + round;
  const Floats n = shifted - round;
  const Floats r = (x - n * 0.693145751953125f) - n * 1.42860682e-06f;  // log(2) in two parts, the first one short
  Floats p = all(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r;
  return {(Floats)(((Bits)shifted << 23) + 0x3f800000u), p};
}

/// Comparisons are written so that a NaN passes through.
PGOLF_INLINE Floats exp_of_nonpositive(Floats x) {
  const Exponential e = exponential(x < -87.3f ? all(-87.3f) : x);
  return e.scale + e.scale * e.fraction;
}

/// tanh and its derivative, without cancellation: with m = expm1(2|x|), tanh|x| = m / (m + 2), 1 - tanh|x| = 2 / (m + 2).
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

/// In four sums, so that none waits for the one before.
template <class T>
PGOLF_INLINE float dot(const T* x, const T* y, int64_t count) {
  Floats sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int64_t j = 0; j < 4; ++j) sums[j] += load(x + i + j * kLanes) * load(y + i + j * kLanes);
  }
  for_lanes(count - i,
            [&](int64_t j, auto part) PGOLF_INLINE_LAMBDA { sums[0] += load(x + i + j, part) * load(y + i + j, part); });
  return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

PGOLF_INLINE float reciprocal_rms(float square_sum, int64_t count) {
  return 1 / __builtin_sqrtf(square_sum / static_cast<float>(count) + kEps);
}

template <class T>
PGOLF_INLINE float rms_norm_row(const T* x, T* y, int64_t width) {
  const float r = reciprocal_rms(dot(x, x, width), width);
  for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { store(y + i, load(x + i, part) * r, part); });
  return r;
}

template <class T>
void rms_norm(const T* x, T* y, float* rstd, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    const float r = rms_norm_row(x, y, width);
    if (rstd != nullptr) rstd[row] = r;
  }
}

/// The c for which dx = r dy - c x is the gradient of one normalised row with r = 1 / rms(x).
template <class T>
PGOLF_INLINE float norm_backward_coefficient(const T* dy, const T* x, float r, int64_t width) {
  return dot(dy, x, width) * r * r * r / static_cast<float>(width);
}

template <class T>
void rms_norm_backward(const T* dy, const T* x, const float* rstd, T* dx, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, dy += width, x += width, dx += width) {
    const float r = rstd[row], along = norm_backward_coefficient(dy, x, r, width);
    for_lanes(width, [&](int64_t i, auto part)
                         PGOLF_INLINE_LAMBDA { store(dx + i, r * load(dy + i, part) - along * load(x + i, part), part); });
  }
}

/// Calls visit(i, part, lanes) for all lanes of factor * x, one head at one time, turned by the table's angles; direction -1:
/// back.
template <class T, class F>
PGOLF_INLINE void for_turned(const T* x, float factor, RotationTable table, int64_t time, float direction, int64_t dim,
                             const F& visit) {
  const float *const cos = table.cos + time * table.half, *const sin = table.sin + time * table.half;
  const int64_t half = table.half;
  int64_t done = 2 * half;
  if (table.interleaved) {
    for_lanes(done, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats own = factor * load(x + i, part), partner = __builtin_shuffle(own, lane_numbers() ^ 1);
      const Floats signs = (lane_numbers() & 1) == 0 ? all(direction) : all(-direction);
      visit(i, part, own * load_twice(cos + i / 2, part) + partner * (signs * load_twice(sin + i / 2, part)));
    });
  } else if (half > 0 && done <= kLanes && kLanes <= dim) {
    // The partners are in one vector, with lanes that turn by nothing behind them.
    const Ints lane = lane_numbers(), h = lane_numbers() * 0 + static_cast<int32_t>(half);
    const Ints pair = lane < h ? lane : lane - h, partner_of = lane < h ? lane + h : pair;
    const First pairs{half};
    const Floats own = factor * load(x), partner = __builtin_shuffle(own, partner_of);
    const Floats s = __builtin_shuffle(load(sin, pairs), pair), c = __builtin_shuffle(load(cos, pairs), pair);
    const Floats turned = own * c + partner * (lane < h ? direction * s : -direction * s);
    visit(0, All{}, lane < 2 * h ? turned : own);
    done = kLanes;
  } else {
    for_lanes(half, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats a = factor * load(x + i, part), b = factor * load(x + i + half, part);
      const Floats c = load(cos + i, part), s = direction * load(sin + i, part);
      visit(i, part, a * c + b * s);
      visit(i + half, part, b * c - a * s);
    });
  }
  for_lanes(dim - done,
            [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { visit(done + i, part, factor * load(x + done + i, part)); });
}

/// One head at one time.
template <class T>
PGOLF_INLINE float norm_rotate_head(const T* x, T* y, RotationTable table, int64_t time, float gain, const HeadShape& shape,
                                    int64_t dim) {
  const float r = shape.normalise ? reciprocal_rms(dot(x, x, dim), dim) : 1.0f;
  for_turned(x, r, table, time, 1.0f, dim,
             [&](int64_t i, auto part, Floats turned) PGOLF_INLINE_LAMBDA { store(y + i, gain * turned, part); });
  return r;
}

/// With u the gradient turned back and n = x * rstd: dgain = u . n and dx = rstd * gain * (u - n * (u . n) / dim), without
/// normalisation rstd = 1 and dx = gain * u.
template <class T>
PGOLF_INLINE float norm_rotate_backward_head(const T* dy, const T* x, float r, RotationTable table, int64_t time, float gain,
                                             T* dx, const HeadShape& shape, int64_t dim) {
  Floats products = {};
  for_turned(dy, 1.0f, table, time, -1.0f, dim,
             [&](int64_t i, auto part, Floats u) PGOLF_INLINE_LAMBDA { products += u * load(x + i, part); });
  const float product = r * sum_of(products), factor = r * gain;
  const float along = shape.normalise ? factor * product * r / static_cast<float>(dim) : 0.0f;
  for_turned(dy, 1.0f, table, time, -1.0f, dim, [&](int64_t i, auto part, Floats u) PGOLF_INLINE_LAMBDA {
    store(dx + i, factor * u - along * load(x + i, part), part);
  });
  return product;
}

/// Where the heads of a row begin.
template <class Pointer>
PGOLF_INLINE Pointer row_of(const Heads<Pointer>& x, int64_t row, int64_t time) {
  return x.data + row / time * x.batch_stride + row % time * x.time_stride;
}

template <class T, int64_t kDim>
void norm_rotate_rows(Heads<const T*> x, Heads<T*> y, float* rstd, RotationTable table, const float* gain, HeadShape shape,
                      int64_t first, int64_t rows) {
  for (int64_t row = first; row < first + rows; ++row) {
    const T* const x_row = row_of(x, row, shape.time);
    T* const y_row = row_of(y, row, shape.time);
    for (int64_t head = 0; head < shape.heads; ++head) {
      const float r = norm_rotate_head(x_row + head * x.head_stride, y_row + head * y.head_stride, table, row % shape.time,
                                       gain != nullptr ? gain[head] : 1.0f, shape, kDim != 0 ? kDim : shape.dim);
      if (rstd != nullptr) rstd[row * shape.heads + head] = r;
    }
  }
}

template <class T>
void norm_rotate(Heads<const T*> x, Heads<T*> y, float* rstd, RotationTable table, const float* gain, HeadShape shape,
                 int64_t first, int64_t rows) {
  const auto run = shape.dim == 32    ? norm_rotate_rows<T, 32>
                   : shape.dim == 64  ? norm_rotate_rows<T, 64>
                   : shape.dim == 128 ? norm_rotate_rows<T, 128>
                                      : norm_rotate_rows<T, 0>;
  run(x, y, rstd, table, gain, shape, first, rows);
}

template <class T, int64_t kDim>
void norm_rotate_backward_rows(Heads<const T*> dy, Heads<const T*> x, const float* rstd, RotationTable table, const float* gain,
                               Heads<T*> dx, float* dgain, HeadShape shape, int64_t first, int64_t rows) {
  if (dgain != nullptr) {
    for (int64_t head = 0; head < shape.heads; ++head) dgain[head] = 0;
  }
  for (int64_t row = first; row < first + rows; ++row) {
    const T* const dy_row = row_of(dy, row, shape.time);
    const T* const x_row = row_of(x, row, shape.time);
    T* const dx_row = row_of(dx, row, shape.time);
    for (int64_t head = 0; head < shape.heads; ++head) {
      const float product = norm_rotate_backward_head(
          dy_row + head * dy.head_stride, x_row + head * x.head_stride, rstd[row * shape.heads + head], table, row % shape.time,
          gain != nullptr ? gain[head] : 1.0f, dx_row + head * dx.head_stride, shape, kDim != 0 ? kDim : shape.dim);
      if (dgain != nullptr) dgain[head] += product;
    }
  }
}

template <class T>
void norm_rotate_backward(Heads<const T*> dy, Heads<const T*> x, const float* rstd, RotationTable table, const float* gain,
                          Heads<T*> dx, float* dgain, HeadShape shape, int64_t first, int64_t rows) {
  const auto run = shape.dim == 32    ? norm_rotate_backward_rows<T, 32>
                   : shape.dim == 64  ? norm_rotate_backward_rows<T, 64>
                   : shape.dim == 128 ? norm_rotate_backward_rows<T, 128>
                                      : norm_rotate_backward_rows<T, 0>;
  run(dy, x, rstd, table, gain, dx, dgain, shape, first, rows);
}

PGOLF_INLINE Floats positive_part(Floats x) {
  return x < 0.0f ? Floats{} : x;
}

template <class T>
void relu_squared(const T* x, T* y, int64_t count) {
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    const Floats positive = positive_part(load(x + i, part));
    store(y + i, positive * positive, part);
  });
}

template <class T>
void relu_squared_backward(const T* dy, const T* x, T* dx, int64_t count) {
  for_lanes(count, [&](int64_t i, auto part)
                       PGOLF_INLINE_LAMBDA { store(dx + i, 2 * positive_part(load(x + i, part)) * load(dy + i, part), part); });
}

/// 1 / (1 + e^-x); NaN passes through.
PGOLF_INLINE Floats sigmoid(Floats x) {
  const Floats e = exp_of_nonpositive(x > 0 ? -x : x), inverse = 1 / (1 + e);
  return x > 0 ? inverse : e * inverse;
}

template <class T>
void swiglu(const T* gate, const T* up, T* y, int64_t count) {
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    const Floats g = load(gate + i, part);
    store(y + i, g * sigmoid(g) * load(up + i, part), part);
  });
}

template <class T>
void swiglu_backward(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t count) {
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    const Floats g = load(gate + i, part), d = load(dy + i, part), s = sigmoid(g);
    store(dup + i, d * g * s, part);
    store(dgate + i, d * load(up + i, part) * s * (1 + g * (1 - s)), part);
  });
}

/// One row of the gradient of an op's first output: what arrives there, plus what the second output, its rms_norm, passes on.
template <class T, bool kNormed>
struct ArrivingGradient {
  PGOLF_INLINE ArrivingGradient(const T* dy_row, const NormedOutput<T>& normed, int64_t row, int64_t width) : dy(dy_row) {
    if constexpr (kNormed) {
      dnormed = normed.dnormed + row * width;
      y = normed.y + row * width;
      r = normed.rstd[row];
      along = norm_backward_coefficient(dnormed, y, r, width);
    }
  }
  template <class Part>
  PGOLF_INLINE Floats at(int64_t i, Part part) const {
    if constexpr (kNormed) return load(dy + i, part) + (r * load(dnormed + i, part) - along * load(y + i, part));
    return load(dy + i, part);
  }
  const T* dy;
  const T *dnormed = nullptr, *y = nullptr;
  float r = 0, along = 0;
};

/// y = f(i, part) for each row, and of each row its rms_norm unless normed is null.
template <class T, class F>
PGOLF_INLINE void write_rows(T* y, T* normed, float* rstd, int64_t rows, int64_t width, const F& f) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * width;
    for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { store(y + at + i, f(at, i, part), part); });
    if (normed == nullptr) continue;
    const float r = rms_norm_row(y + at, normed + at, width);
    if (rstd != nullptr) rstd[row] = r;
  }
}

template <class T>
void residual_mix(const T* x, const T* x0, const float* mix, T* y, T* normed, float* rstd, int64_t rows, int64_t width) {
  const float* const mix0 = mix + width;
  write_rows(y, normed, rstd, rows, width, [&](int64_t at, int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    return load(mix + i, part) * load(x + at + i, part) + load(mix0 + i, part) * load(x0 + at + i, part);
  });
}

template <class T, bool kNormed>
void residual_mix_backward_rows(const T* dy, NormedOutput<T> normed, const T* x, const T* x0, const float* mix, T* dx, T* dx0,
                                float* dmix, int64_t rows, int64_t width) {
  const float* const mix0 = mix + width;
  float* const dmix0 = dmix + width;
  for (int64_t i = 0; i < 2 * width; ++i) dmix[i] = 0;
  for (int64_t row = 0; row < rows; ++row, dy += width, x += width, x0 += width, dx += width, dx0 += width) {
    const ArrivingGradient<T, kNormed> gradient(dy, normed, row, width);
    for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats d = gradient.at(i, part);
      store(dmix + i, load(dmix + i, part) + d * load(x + i, part), part);
      store(dmix0 + i, load(dmix0 + i, part) + d * load(x0 + i, part), part);
      store(dx + i, d * load(mix + i, part), part);
      store(dx0 + i, d * load(mix0 + i, part), part);
    });
  }
}

template <class T>
void residual_mix_backward(const T* dy, NormedOutput<T> normed, const T* x, const T* x0, const float* mix, T* dx, T* dx0,
                           float* dmix, int64_t rows, int64_t width) {
  const auto run = normed.dnormed != nullptr ? residual_mix_backward_rows<T, true> : residual_mix_backward_rows<T, false>;
  run(dy, normed, x, x0, mix, dx, dx0, dmix, rows, width);
}

template <class T>
void scaled_add(const T* x, const float* scale, const T* branch, T* y, T* normed, float* rstd, int64_t rows, int64_t width) {
  write_rows(y, normed, rstd, rows, width, [&](int64_t at, int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    return load(x + at + i, part) + load(scale + i, part) * load(branch + at + i, part);
  });
}

template <class T, bool kNormed>
void scaled_add_backward_rows(const T* dy, NormedOutput<T> normed, const float* scale, const T* branch, T* dx, T* dbranch,
                              float* dscale, int64_t rows, int64_t width) {
  for (int64_t i = 0; i < width; ++i) dscale[i] = 0;
  for (int64_t row = 0; row < rows; ++row, dy += width, branch += width, dbranch += width) {
    const ArrivingGradient<T, kNormed> gradient(dy, normed, row, width);
    T* const dx_row = kNormed ? dx + row * width : nullptr;
    for_lanes(width, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats d = gradient.at(i, part);
      if constexpr (kNormed) store(dx_row + i, d, part);
      store(dscale + i, load(dscale + i, part) + d * load(branch + i, part), part);
      store(dbranch + i, d * load(scale + i, part), part);
    });
  }
}

template <class T>
void scaled_add_backward(const T* dy, NormedOutput<T> normed, const float* scale, const T* branch, T* dx, T* dbranch,
                         float* dscale, int64_t rows, int64_t width) {
  const auto run = normed.dnormed != nullptr ? scaled_add_backward_rows<T, true> : scaled_add_backward_rows<T, false>;
  run(dy, normed, scale, branch, dx, dbranch, dscale, rows, width);
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
    const float largest = largest_of(maxima), target = zs[targets[row]];
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

template <class T>
void scale(T* x, const float* factor, int64_t count) {
  const float by = *factor;
  if (by == 1.0f) return;
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { store(x + i, by * load(x + i, part), part); });
}

template <class T>
constexpr Kernels<T> all_kernels() {
  return {rms_norm<T>,
          rms_norm_backward<T>,
          norm_rotate<T>,
          norm_rotate_backward<T>,
          relu_squared<T>,
          relu_squared_backward<T>,
          swiglu<T>,
          swiglu_backward<T>,
          residual_mix<T>,
          residual_mix_backward<T>,
          scaled_add<T>,
          scaled_add_backward<T>,
          softcap_cross_entropy<T>,
          scale<T>};
}

}  // namespace

namespace PGOLF_ISA {
extern const Kernels<float> float_kernels;
extern const Kernels<Bf16> bfloat16_kernels;
constexpr Kernels<float> float_kernels = all_kernels<float>();
constexpr Kernels<Bf16> bfloat16_kernels = all_kernels<Bf16>();
}  // namespace PGOLF_ISA

}  // namespace pgolf::ops
