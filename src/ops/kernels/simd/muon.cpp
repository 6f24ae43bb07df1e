// Muon's update in vectors of float32. Compiled once per instruction set like kernels.cpp, under the same rules.
#include "../muon.h"

#include "../gemm.h"
#include "../newton_schulz_coefficients.h"
#include "lanes.h"

namespace pgolf::ops {
namespace PGOLF_ISA {
extern const VectorGemm gemm_kernels;
}
namespace {

template <class T>
double nesterov(const float* gradient, float* buffer, float momentum, T* x, int64_t count) {
  double total = 0;
  // Squares are summed in float32 over short segments only.
  constexpr int64_t kSegment = 4096;
  for (int64_t start = 0; start < count; start += kSegment) {
    Floats squares{};
    for_lanes(count - start < kSegment ? count - start : kSegment, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const int64_t at = start + i;
      const Floats g = load(gradient + at, part), b = load(buffer + at, part) * momentum + g;
      store(buffer + at, b, part);
      store(x + at, g + b * momentum, part);
      const Floats rounded = load(x + at, part);
      squares += rounded * rounded;
    });
    total += static_cast<double>(sum_of(squares));
  }
  return total;
}

template <class T>
double nesterov_rows(const float* gradient, float* buffer, float momentum, T* x, int64_t rows, int64_t columns) {
  double total = 0;
  for (int64_t row = 0; row < rows; ++row, gradient += columns, buffer += columns, x += columns) {
    Floats squares{};
    for_lanes(columns, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats g = load(gradient + i, part), b = load(buffer + i, part) * momentum + g;
      store(buffer + i, b, part);
      const Floats value = g + b * momentum;
      squares += value * value;
    });
    const float norm = __builtin_sqrtf(sum_of(squares)), divisor = norm > kMinRowNorm ? norm : kMinRowNorm;
    Floats rounded_squares{};
    for_lanes(columns, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      store(x + i, (load(gradient + i, part) + load(buffer + i, part) * momentum) / divisor, part);
      const Floats rounded = load(x + i, part);
      rounded_squares += rounded * rounded;
    });
    total += static_cast<double>(sum_of(rounded_squares));
  }
  return total;
}

template <class T>
void scale(T* x, float factor, int64_t count) {
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { store(x + i, load(x + i, part) * factor, part); });
}

template <class T>
void add_update(float* parameter, const T* x, float factor, float alpha, int64_t count) {
  for_lanes(count, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
    T update[kLanes];
    store(update, load(x + i, part) * factor);
    store(parameter + i, load(parameter + i, part) + load(update) * alpha, part);
  });
}

const Packing<float, float>& packing_of(const float*) {
  return PGOLF_ISA::gemm_kernels.pack;
}
const Packing<Bf16, float>& packing_of(const Bf16*) {
  return PGOLF_ISA::gemm_kernels.pack_bfloat16;
}

int64_t panels(int64_t width, int64_t panel) {
  return round_up(width, panel) / panel;
}

/// Left and right operands of the products of an iteration, and where the results go.
template <class T>
class Iteration {
 public:
  Iteration(int64_t rows, int64_t columns, void* scratch)
      : rows_(rows), columns_(columns), tall_(rows > columns), size_(tall_ ? columns : rows), depth_(tall_ ? rows : columns) {
    left_ = static_cast<float*>(scratch);
    right_ = left_ + left_floats(rows, columns);
    next_ = reinterpret_cast<T*>(right_ + right_floats(rows, columns));
    product_ = next_ + rows * columns;
    polynomial_ = product_ + size_ * size_;
  }

  static int64_t scratch_bytes(int64_t rows, int64_t columns) {
    const int64_t size = rows < columns ? rows : columns;
    return (left_floats(rows, columns) + right_floats(rows, columns)) * static_cast<int64_t>(sizeof(float)) +
           (rows * columns + 2 * size * size) * static_cast<int64_t>(sizeof(T));
  }

  void run(T* x, int steps) {
    T *from = x, *to = next_;
    for (int i = 0; i < steps; ++i) {
      step(from, to);
      T* const swap = from;
      from = to;
      to = swap;
    }
    if (from != x) __builtin_memcpy(x, from, static_cast<uint64_t>(rows_ * columns_) * sizeof(T));
  }

 private:
  static constexpr auto a = static_cast<float>(NewtonSchulzCoefficients::a), b = static_cast<float>(NewtonSchulzCoefficients::b),
                        c = static_cast<float>(NewtonSchulzCoefficients::c);

  static int64_t left_floats(int64_t rows, int64_t columns) {
    const int64_t size = rows < columns ? rows : columns, depth = rows < columns ? columns : rows;
    return round_up(max(VectorGemm::left_size(depth, size), VectorGemm::left_size(size, rows)), 16);
  }
  static int64_t right_floats(int64_t rows, int64_t columns) {
    const int64_t size = rows < columns ? rows : columns, depth = rows < columns ? columns : rows;
    return round_up(max(VectorGemm::right_size(depth, size), VectorGemm::right_size(size, columns)), 16);
  }

  void step(const T* from, T* to) {
    const auto& pack = packing_of(from);
    // product = x x^T or x^T x
    (tall_ ? pack.left_transposed : pack.left)(from, columns_, depth_, size_, left_, 0, panels(size_, VectorGemm::kLeftPanel));
    (tall_ ? pack.right : pack.right_transposed)(from, columns_, depth_, size_, right_, 0,
                                                 panels(size_, VectorGemm::kRightPanel));
    multiply(depth_, size_, size_, output(Store::assign, product_, size_, nullptr, 0, 0, /*upper=*/true));
    mirror(product_);
    // polynomial = b product + c product^2
    pack.left(product_, size_, size_, size_, left_, 0, panels(size_, VectorGemm::kLeftPanel));
    pack.right(product_, size_, size_, size_, right_, 0, panels(size_, VectorGemm::kRightPanel));
    multiply(size_, size_, size_, output(Store::combine, polynomial_, size_, product_, b, c, /*upper=*/true));
    mirror(polynomial_);
    // x = a x + polynomial x, or a x + x polynomial
    const T* const left = tall_ ? from : polynomial_;
    const T* const right = tall_ ? polynomial_ : from;
    pack.left(left, size_, size_, rows_, left_, 0, panels(rows_, VectorGemm::kLeftPanel));
    pack.right(right, columns_, size_, columns_, right_, 0, panels(columns_, VectorGemm::kRightPanel));
    multiply(size_, rows_, columns_, output(Store::combine, to, columns_, from, a, 1, /*upper=*/false));
  }

  static Output output(Store store, T* c, int64_t stride, const T* d, float p, float q, bool upper) {
    const auto type = sizeof(T) == sizeof(float) ? Element::float32 : Element::bfloat16;
    return {store, type, c, stride, const_cast<T*>(d), stride, p, q, upper};
  }

  void multiply(int64_t depth, int64_t rows, int64_t columns, const Output& to) {
    const Term<float> term{left_, right_, depth};
    PGOLF_ISA::gemm_kernels.multiply(&term, 1, rows, columns, to);
  }

  /// Copies what is right of the diagonal to the left of it.
  void mirror(T* matrix) {
    constexpr int64_t kBlock = 16;
    for (int64_t top = 0; top < size_; top += kBlock) {
      for (int64_t left = 0; left <= top; left += kBlock) {
        for (int64_t row = top; row < top + kBlock && row < size_; ++row) {
          for (int64_t column = left; column < left + kBlock && column < row; ++column) {
            matrix[row * size_ + column] = matrix[column * size_ + row];
          }
        }
      }
    }
  }

  int64_t rows_, columns_;
  bool tall_;
  int64_t size_, depth_;  ///< of x x^T or x^T x, and of the sums in it
  float *left_, *right_;
  T *next_, *product_, *polynomial_;
};

template <class T>
void newton_schulz(T* x, int64_t rows, int64_t columns, int steps, void* scratch) {
  Iteration<T>(rows, columns, scratch).run(x, steps);
}

}  // namespace

namespace PGOLF_ISA {
extern const MuonKernels<float> float_muon_kernels;
constexpr MuonKernels<float> float_muon_kernels{1,
                                                nesterov<float>,
                                                nesterov_rows<float>,
                                                scale<float>,
                                                newton_schulz<float>,
                                                Iteration<float>::scratch_bytes,
                                                add_update<float>};
extern const MuonKernels<Bf16> bfloat16_muon_kernels;
constexpr MuonKernels<Bf16> bfloat16_muon_kernels{
    1, nesterov<Bf16>, nesterov_rows<Bf16>, scale<Bf16>, newton_schulz<Bf16>, Iteration<Bf16>::scratch_bytes, add_update<Bf16>};
}  // namespace PGOLF_ISA

}  // namespace pgolf::ops
