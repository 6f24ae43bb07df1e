// Muon's update on bfloat16 tiles.
#include "../muon.h"

#include "../newton_schulz_coefficients.h"
#include "gemm.h"
#include "tile.h"

namespace pgolf::ops::amx {
namespace {

constexpr int64_t kVector = 32;

double nesterov(const float* gradient, float* buffer, float momentum, Bf16* x, int64_t count) {
  const __m512 m = _mm512_set1_ps(momentum);
  double total = 0;
  // Squares are summed in float32 over short segments only.
  constexpr int64_t segment = 4096;
  for (int64_t start = 0; start < count; start += segment) {
    const int64_t end = start + segment < count ? start + segment : count;
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = start; i < end; i += kVector) {
      const __mmask16 masks[2] = {first_of_16(end - i), first_of_16(end - i - 16)};
      __m512 result[2];
      for (int half = 0; half < 2; ++half) {
        const int64_t at = i + 16 * half;
        const __m512 g = _mm512_maskz_loadu_ps(masks[half], gradient + at);
        // Two roundings each, like the definition's separate operations.
        const __m512 b = _mm512_add_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(masks[half], buffer + at), m), g);
        _mm512_mask_storeu_ps(buffer + at, masks[half], b);
        result[half] = _mm512_fmadd_ps(m, b, g);
      }
      const __m512i bits = to_bf16(result[0], result[1]);
      _mm512_mask_storeu_epi16(x + i, first_of_32(end - i), bits);
      const Floats rounded = floats_of(bits);
      squares = _mm512_fmadd_ps(rounded.low, rounded.low, squares);
      squares = _mm512_fmadd_ps(rounded.high, rounded.high, squares);
    }
    total += static_cast<double>(_mm512_reduce_add_ps(squares));
  }
  return total;
}

double nesterov_rows(const float* gradient, float* buffer, float momentum, Bf16* x, int64_t rows, int64_t columns) {
  const __m512 m = _mm512_set1_ps(momentum);
  double total = 0;
  for (int64_t row = 0; row < rows; ++row, gradient += columns, buffer += columns, x += columns) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < columns; i += 16) {
      const __mmask16 mask = first_of_16(columns - i);
      const __m512 g = _mm512_maskz_loadu_ps(mask, gradient + i);
      const __m512 b = _mm512_add_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, buffer + i), m), g);
      _mm512_mask_storeu_ps(buffer + i, mask, b);
      const __m512 value = _mm512_fmadd_ps(m, b, g);
      squares = _mm512_fmadd_ps(value, value, squares);
    }
    const float norm = __builtin_sqrtf(_mm512_reduce_add_ps(squares));
    const __m512 divisor = _mm512_set1_ps(norm > kMinRowNorm ? norm : kMinRowNorm);
    __m512 rounded_squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < columns; i += kVector) {
      __m512 result[2];
      for (int half = 0; half < 2; ++half) {
        const int64_t at = i + 16 * half;
        const __mmask16 mask = first_of_16(columns - at);
        const __m512 g = _mm512_maskz_loadu_ps(mask, gradient + at), b = _mm512_maskz_loadu_ps(mask, buffer + at);
        result[half] = _mm512_div_ps(_mm512_fmadd_ps(m, b, g), divisor);
      }
      const __m512i bits = to_bf16(result[0], result[1]);
      _mm512_mask_storeu_epi16(x + i, first_of_32(columns - i), bits);
      const Floats rounded = floats_of(bits);
      rounded_squares = _mm512_fmadd_ps(rounded.low, rounded.low, rounded_squares);
      rounded_squares = _mm512_fmadd_ps(rounded.high, rounded.high, rounded_squares);
    }
    total += static_cast<double>(_mm512_reduce_add_ps(rounded_squares));
  }
  return total;
}

void scale(Bf16* x, float factor, int64_t count) {
  const __m512 f = _mm512_set1_ps(factor);
  for (int64_t i = 0; i < count; i += kVector) {
    const Floats value = load_floats(x + i, count - i);
    store_floats(x + i, count - i, {_mm512_mul_ps(value.low, f), _mm512_mul_ps(value.high, f)});
  }
}

void add_update(float* parameter, const Bf16* x, float factor, float alpha, int64_t count) {
  const __m512 f = _mm512_set1_ps(factor), a = _mm512_set1_ps(alpha);
  for (int64_t i = 0; i < count; i += kVector) {
    const Floats value = load_floats(x + i, count - i);
    const Floats update = floats_of(to_bf16(_mm512_mul_ps(value.low, f), _mm512_mul_ps(value.high, f)));
    const __m512 halves[2] = {update.low, update.high};
    for (int half = 0; half < 2; ++half) {
      const int64_t at = i + 16 * half;
      const __mmask16 mask = first_of_16(count - at);
      const __m512 before = _mm512_maskz_loadu_ps(mask, parameter + at);
      _mm512_mask_storeu_ps(parameter + at, mask, _mm512_fmadd_ps(a, halves[half], before));
    }
  }
}

int64_t scratch_bytes(int64_t rows, int64_t columns) {
  const int64_t small = rows < columns ? rows : columns;
  return (3 * rows * columns + 4 * small * small) * static_cast<int64_t>(sizeof(Bf16));
}

void newton_schulz(Bf16* x, int64_t rows, int64_t columns, int steps, void* scratch) {
  constexpr auto a = static_cast<float>(NewtonSchulzCoefficients::a), b = static_cast<float>(NewtonSchulzCoefficients::b),
                 c = static_cast<float>(NewtonSchulzCoefficients::c);
  const bool tall = rows > columns;
  const int64_t size = tall ? columns : rows, depth = tall ? rows : columns, count = rows * columns;
  const int64_t panels = size / kPanel;
  Bf16* const next = static_cast<Bf16*>(scratch);
  Bf16* const left = next + count;
  Bf16* const right = left + count;
  Bf16* const product = right + count;
  Bf16* const polynomial = product + size * size;
  Bf16* const square_left = polynomial + size * size;
  Bf16* const square_right = square_left + size * size;
  Bf16 *from = x, *to = next;
  for (int step = 0; step < steps; ++step) {
    // product = x x^T or x^T x
    (tall ? packing.left_transposed : packing.left)(from, columns, depth, size, left, 0, panels);
    (tall ? packing.right : packing.right_transposed)(from, columns, depth, size, right, 0, panels);
    const Term gram{left, right, depth};
    multiply(&gram, 1, size, size, {Store::assign, Element::bfloat16, product, size, nullptr, 0, 0, 0, /*upper=*/true});
    mirror(product, size);
    // polynomial = b product + c product^2
    packing.left(product, size, size, size, square_left, 0, panels);
    packing.right(product, size, size, size, square_right, 0, panels);
    const Term square{square_left, square_right, size};
    multiply(&square, 1, size, size, {Store::combine, Element::bfloat16, polynomial, size, product, size, b, c, /*upper=*/true});
    mirror(polynomial, size);
    // x = a x + polynomial x, or a x + x polynomial
    const Term last = tall ? Term{left, square_right, size} : Term{square_left, right, size};
    if (tall) {
      packing.left(from, columns, size, rows, left, 0, rows / kPanel);
      packing.right(polynomial, size, size, size, square_right, 0, panels);
    } else {
      packing.left(polynomial, size, size, size, square_left, 0, panels);
      packing.right(from, columns, size, columns, right, 0, columns / kPanel);
    }
    multiply(&last, 1, rows, columns, {Store::combine, Element::bfloat16, to, columns, from, columns, a, 1.0f});
    Bf16* const swap = from;
    from = to;
    to = swap;
  }
  if (from != x) {
    for (int64_t i = 0; i < count; ++i) x[i] = from[i];
  }
}

constexpr MuonKernels<Bf16> kernels{kPanel, nesterov, nesterov_rows, scale, newton_schulz, scratch_bytes, add_update};

}  // namespace
}  // namespace pgolf::ops::amx

namespace pgolf::ops {

const MuonKernels<Bf16>& amx_muon_kernels() {
  return amx::kernels;
}

}  // namespace pgolf::ops
