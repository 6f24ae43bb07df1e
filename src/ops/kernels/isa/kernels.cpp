// Compiled once per instruction set with PGOLF_ISA naming it (src/CMakeLists.txt). Everything is in an anonymous
// namespace and nothing from the standard library is called: a shared inline function compiled here with wide
// instructions could otherwise be the copy that the linker keeps for every processor.
#include "../kernels.h"

namespace pgolf::ops {
namespace {

#define PGOLF_INLINE inline __attribute__((always_inline))
#define PGOLF_RESTRICT __restrict__

constexpr float kEps = 1.1920929e-07f;

template <class To, class From>
PGOLF_INLINE To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  __builtin_memcpy(&result, &value, sizeof(result));
  return result;
}

PGOLF_INLINE float load(const float& value) {
  return value;
}
PGOLF_INLINE float load(const Bf16& value) {
  return bits_of<float>(static_cast<uint32_t>(value.bits) << 16);
}

PGOLF_INLINE void store(float& to, float value) {
  to = value;
}
PGOLF_INLINE void store(Bf16& to, float value) {
  const uint32_t bits = bits_of<uint32_t>(value);
  const uint32_t nearest_even = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = static_cast<uint16_t>(value != value ? 0x7fc0u : nearest_even);
}

/// e^x = scale * (1 + fraction), with scale a power of two and |log(1 + fraction)| <= log(2) / 2; -87.3 <= x <= 88.
/// The Taylor series to r^7 leaves less than 1e-8. Measured over the whole range: exp below is within 1.1 units in the last
/// place, tanh within 3 and its derivative within 4.
struct Exponential {
  float scale, fraction;
};
PGOLF_INLINE Exponential exponential(float x) {
  constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits
  const float shifted = x * 1.44269504f + round;
  const float n = shifted - round;
  const float r = (x - n * 0.693145751953125f) - n * 1.42860682e-06f;  // log(2) in two parts, the first one short
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r;
  return {bits_of<float>((bits_of<uint32_t>(shifted) << 23) + 0x3f800000u), p};
}

/// Comparisons are written so that a NaN passes through.
PGOLF_INLINE float exp_of_nonpositive(float x) {
  const Exponential e = exponential(x < -87.3f ? -87.3f : x);
  return e.scale + e.scale * e.fraction;
}

/// tanh and its derivative, without cancellation: with m = expm1(2|x|), tanh|x| = m / (m + 2), 1 - tanh|x| = 2 / (m + 2).
struct Tanh {
  float value, derivative;
};
PGOLF_INLINE Tanh tanh_of(float x) {
  const float magnitude = __builtin_fabsf(x);
  const Exponential e = exponential(magnitude > 20.0f ? 40.0f : 2 * magnitude);
  const float m = (e.scale - 1) + e.scale * e.fraction;
  const float inverse = 1 / (m + 2);
  const float value = m * inverse;
  return {__builtin_copysignf(value, x), 2 * inverse * (1 + value)};
}

template <class T>
PGOLF_INLINE float dot(const T* x, const T* y, int64_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += load(x[i]) * load(y[i]);
  return sum;
}

PGOLF_INLINE float reciprocal_rms(float square_sum, int64_t count) {
  return 1 / __builtin_sqrtf(square_sum / static_cast<float>(count) + kEps);
}

template <class T>
void rms_norm(const T* PGOLF_RESTRICT x, T* PGOLF_RESTRICT y, float* rstd, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    const float r = reciprocal_rms(dot(x, x, width), width);
    if (rstd != nullptr) rstd[row] = r;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) store(y[i], load(x[i]) * r);
  }
}

/// The c for which dx = r dy - c x is the gradient of one normalised row with r = 1 / rms(x).
template <class T>
PGOLF_INLINE float norm_backward_coefficient(const T* PGOLF_RESTRICT dy, const T* PGOLF_RESTRICT x, float r, int64_t width) {
  return dot(dy, x, width) * r * r * r / static_cast<float>(width);
}

template <class T>
void rms_norm_backward(const T* PGOLF_RESTRICT dy, const T* PGOLF_RESTRICT x, const float* rstd, T* PGOLF_RESTRICT dx,
                       int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, dy += width, x += width, dx += width) {
    const float r = rstd[row], along = norm_backward_coefficient(dy, x, r, width);
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) store(dx[i], r * load(dy[i]) - along * load(x[i]));
  }
}

// Vectors of 32 bytes in all loops over one head: 8 pairs (rope_dims 16) shall not end up in the scalar rest of a wider
// loop, and what one loop stores the next one loads, which is only quick at equal width.

/// (a, b) of each pair -> (a cos + direction b sin, b cos - direction a sin): direction 1 rotates, -1 rotates back.
PGOLF_INLINE void rotate(float* PGOLF_RESTRICT lanes, RotationTable table, int64_t time, float direction) {
  const float* PGOLF_RESTRICT cos = table.cos + time * table.half;
  const float* PGOLF_RESTRICT sin = table.sin + time * table.half;
#pragma omp simd simdlen(8)
  for (int64_t i = 0; i < table.half; ++i) {
    const float a = lanes[i], b = lanes[i + table.half], s = direction * sin[i];
    lanes[i] = a * cos[i] + b * s;
    lanes[i + table.half] = b * cos[i] - a * s;
  }
}

/// One head at one time, through a local array: the pair loop is short, so that conversions in it would not vectorise.
template <class T>
PGOLF_INLINE float norm_rotate_head(const T* PGOLF_RESTRICT x, T* PGOLF_RESTRICT y, RotationTable table, int64_t time, float gain,
                                    int64_t dim) {
  float lanes[kMaxHeadDim];
  float sum = 0;
#pragma omp simd simdlen(32 / sizeof(T)) reduction(+ : sum)
  for (int64_t i = 0; i < dim; ++i) {
    lanes[i] = load(x[i]);
    sum += lanes[i] * lanes[i];
  }
  const float r = reciprocal_rms(sum, dim);
  rotate(lanes, table, time, 1.0f);
  const float factor = r * gain;
#pragma omp simd simdlen(32 / sizeof(T))
  for (int64_t i = 0; i < dim; ++i) store(y[i], lanes[i] * factor);
  return r;
}

/// With u the gradient rotated back and n = x * rstd: dgain = u . n and dx = rstd * gain * (u - n * (u . n) / dim).
template <class T>
PGOLF_INLINE float norm_rotate_backward_head(const T* PGOLF_RESTRICT dy, const T* PGOLF_RESTRICT x, float r, RotationTable table,
                                             int64_t time, float gain, T* PGOLF_RESTRICT dx, int64_t dim) {
  float u[kMaxHeadDim];
#pragma omp simd simdlen(32 / sizeof(T))
  for (int64_t i = 0; i < dim; ++i) u[i] = load(dy[i]);
  rotate(u, table, time, -1.0f);
  float product = 0;
#pragma omp simd simdlen(32 / sizeof(T)) reduction(+ : product)
  for (int64_t i = 0; i < dim; ++i) product += u[i] * load(x[i]);
  product *= r;
  const float factor = r * gain;
  const float along = factor * product * r / static_cast<float>(dim);
#pragma omp simd simdlen(32 / sizeof(T))
  for (int64_t i = 0; i < dim; ++i) store(dx[i], factor * u[i] - along * load(x[i]));
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
                                       gain != nullptr ? gain[head] : 1.0f, kDim != 0 ? kDim : shape.dim);
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
          gain != nullptr ? gain[head] : 1.0f, dx_row + head * dx.head_stride, kDim != 0 ? kDim : shape.dim);
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

template <class T>
void relu_squared(const T* PGOLF_RESTRICT x, T* PGOLF_RESTRICT y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const float value = load(x[i]);
    const float positive = value < 0 ? 0.0f : value;
    store(y[i], positive * positive);
  }
}

template <class T>
void relu_squared_backward(const T* PGOLF_RESTRICT dy, const T* PGOLF_RESTRICT x, T* PGOLF_RESTRICT dx, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const float value = load(x[i]);
    const float positive = value < 0 ? 0.0f : value;
    store(dx[i], 2 * positive * load(dy[i]));
  }
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
  PGOLF_INLINE float operator()(int64_t i) const {
    if constexpr (kNormed) return load(dy[i]) + (r * load(dnormed[i]) - along * load(y[i]));
    return load(dy[i]);
  }
  const T* PGOLF_RESTRICT dy;
  const T* PGOLF_RESTRICT dnormed = nullptr;
  const T* PGOLF_RESTRICT y = nullptr;
  float r = 0, along = 0;
};

template <class T>
void residual_mix(const T* PGOLF_RESTRICT x, const T* PGOLF_RESTRICT x0, const float* PGOLF_RESTRICT mix, T* PGOLF_RESTRICT y,
                  T* normed, float* rstd, int64_t rows, int64_t width) {
  const float* mix0 = mix + width;
  for (int64_t at = 0; at < rows * width; at += width) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) store(y[at + i], mix[i] * load(x[at + i]) + mix0[i] * load(x0[at + i]));
  }
  if (normed != nullptr) rms_norm(y, normed, rstd, rows, width);
}

template <class T, bool kNormed>
void residual_mix_backward_rows(const T* PGOLF_RESTRICT dy, NormedOutput<T> normed, const T* PGOLF_RESTRICT x,
                                const T* PGOLF_RESTRICT x0, const float* PGOLF_RESTRICT mix, T* PGOLF_RESTRICT dx,
                                T* PGOLF_RESTRICT dx0, float* PGOLF_RESTRICT dmix, int64_t rows, int64_t width) {
  const float* mix0 = mix + width;
  float* dmix0 = dmix + width;
  for (int64_t i = 0; i < 2 * width; ++i) dmix[i] = 0;
  for (int64_t row = 0; row < rows; ++row, dy += width, x += width, x0 += width, dx += width, dx0 += width) {
    const ArrivingGradient<T, kNormed> gradient(dy, normed, row, width);
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const float d = gradient(i);
      dmix[i] += d * load(x[i]);
      dmix0[i] += d * load(x0[i]);
      store(dx[i], d * mix[i]);
      store(dx0[i], d * mix0[i]);
    }
  }
}

template <class T>
void residual_mix_backward(const T* dy, NormedOutput<T> normed, const T* x, const T* x0, const float* mix, T* dx, T* dx0,
                           float* dmix, int64_t rows, int64_t width) {
  const auto run = normed.dnormed != nullptr ? residual_mix_backward_rows<T, true> : residual_mix_backward_rows<T, false>;
  run(dy, normed, x, x0, mix, dx, dx0, dmix, rows, width);
}

template <class T>
void scaled_add(const T* PGOLF_RESTRICT x, const float* PGOLF_RESTRICT scale, const T* PGOLF_RESTRICT branch, T* PGOLF_RESTRICT y,
                T* normed, float* rstd, int64_t rows, int64_t width) {
  for (int64_t at = 0; at < rows * width; at += width) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) store(y[at + i], load(x[at + i]) + scale[i] * load(branch[at + i]));
  }
  if (normed != nullptr) rms_norm(y, normed, rstd, rows, width);
}

template <class T, bool kNormed>
void scaled_add_backward_rows(const T* PGOLF_RESTRICT dy, NormedOutput<T> normed, const float* PGOLF_RESTRICT scale,
                              const T* PGOLF_RESTRICT branch, T* PGOLF_RESTRICT dx, T* PGOLF_RESTRICT dbranch,
                              float* PGOLF_RESTRICT dscale, int64_t rows, int64_t width) {
  for (int64_t i = 0; i < width; ++i) dscale[i] = 0;
  for (int64_t row = 0; row < rows; ++row, dy += width, branch += width, dbranch += width) {
    const ArrivingGradient<T, kNormed> gradient(dy, normed, row, width);
    T* PGOLF_RESTRICT dx_row = kNormed ? dx + row * width : nullptr;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const float d = gradient(i);
      if constexpr (kNormed) store(dx_row[i], d);
      dscale[i] += d * load(branch[i]);
      store(dbranch[i], d * scale[i]);
    }
  }
}

template <class T>
void scaled_add_backward(const T* dy, NormedOutput<T> normed, const float* scale, const T* branch, T* dx, T* dbranch,
                         float* dscale, int64_t rows, int64_t width) {
  const auto run = normed.dnormed != nullptr ? scaled_add_backward_rows<T, true> : scaled_add_backward_rows<T, false>;
  run(dy, normed, scale, branch, dx, dbranch, dscale, rows, width);
}

template <class T>
void softcap_cross_entropy(const T* PGOLF_RESTRICT logits, const int64_t* targets, float cap, float grad_scale, float* loss,
                           T* PGOLF_RESTRICT gradient, float* scratch, int64_t rows, int64_t vocab) {
  float* PGOLF_RESTRICT tanhs = scratch;  // then their exponentials
  float* PGOLF_RESTRICT slopes = scratch + vocab;
  const float inverse_cap = 1 / cap;
  for (int64_t row = 0; row < rows; ++row, logits += vocab) {
    float largest = -1;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < vocab; ++i) {
      const Tanh t = tanh_of(load(logits[i]) * inverse_cap);
      tanhs[i] = t.value;
      slopes[i] = t.derivative;
      largest = t.value > largest ? t.value : largest;
    }
    const float target = tanhs[targets[row]];
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < vocab; ++i) {
      const float e = exp_of_nonpositive(cap * (tanhs[i] - largest));
      tanhs[i] = e;
      sum += e;
    }
    loss[row] = __builtin_logf(sum) + cap * (largest - target);
    if (gradient == nullptr) continue;
    const float per_sum = grad_scale / sum;
#pragma omp simd
    for (int64_t i = 0; i < vocab; ++i) store(gradient[i], tanhs[i] * per_sum * slopes[i]);
    const int64_t t = targets[row];
    store(gradient[t], (tanhs[t] - sum) * per_sum * slopes[t]);
    gradient += vocab;
  }
}

template <class T>
void scale(T* x, const float* factor, int64_t count) {
  const float by = *factor;
  if (by == 1.0f) return;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) store(x[i], by * load(x[i]));
}

template <class T>
constexpr Kernels<T> all_kernels() {
  return {rms_norm<T>,     rms_norm_backward<T>,     norm_rotate<T>,           norm_rotate_backward<T>,
          relu_squared<T>, relu_squared_backward<T>, residual_mix<T>,          residual_mix_backward<T>,
          scaled_add<T>,   scaled_add_backward<T>,   softcap_cross_entropy<T>, scale<T>};
}

}  // namespace

namespace PGOLF_ISA {
extern const Kernels<float> float_kernels;
extern const Kernels<Bf16> bfloat16_kernels;
constexpr Kernels<float> float_kernels = all_kernels<float>();
constexpr Kernels<Bf16> bfloat16_kernels = all_kernels<Bf16>();
}  // namespace PGOLF_ISA

}  // namespace pgolf::ops
