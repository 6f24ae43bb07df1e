// What the tests of the emulated kernels share: arguments in memory of just their size, and the comparison with formulas in
// double. A test of a kernel fills Buffers, calls the launcher, and hands what it expects to expect_close().
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "emulation.h"
#include "ops/kernels/cuda/kernels.h"

namespace pgolf::ops::cuda::testing {

enum class Size { quick, small, big };

/// From the command line; see main.cpp.
struct Options {
  Size size = Size::quick;
  unsigned seed = 1;   ///< of a test's first repetition
  unsigned seeds = 2;  ///< repetitions of each test
  bool report = false;
};
extern Options options;

extern std::mt19937 generator;  ///< of the data

/// The base of all tests of kernels: TYPED_TESTs over Elements.
template <class T>
class KernelTest : public ::testing::Test {
 protected:
  const Kernels<T> kernels{nullptr};

  /// Runs test(case) for each case, with as many orders of threads and data as options.seeds.
  template <class Case, class F>
  void for_each(const std::vector<Case>& cases, const F& test) {
    for (unsigned repetition = 0; repetition < options.seeds; ++repetition) {
      for (size_t i = 0; i < cases.size(); ++i) {
        cuda_emulation::seed = options.seed + repetition;
        generator.seed((options.seed + repetition) * 1000003 + static_cast<unsigned>(i));
        SCOPED_TRACE(text_of(cases[i]) + ", seed " + std::to_string(cuda_emulation::seed));
        test(cases[i]);
        if (HasFatalFailure()) return;
      }
    }
  }
};

using Elements = ::testing::Types<float, Bf16>;

/// Relative error of a value in memory, of which more than one rounding is left to float32 only.
template <class T>
constexpr double kRounding = sizeof(T) == 4 ? 16.0 / (1 << 23) : 1.03 / (1 << 8);

// Not the conversions of row_math.h, which are under test.
inline double value_of(float value) {
  return value;
}
inline double value_of(Bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}
template <class T>
T nearby(double value) {
  const auto single = static_cast<float>(value);
  if constexpr (sizeof(T) == 4) {
    return single;
  } else {
    uint32_t bits;
    std::memcpy(&bits, &single, sizeof(bits));
    return {static_cast<uint16_t>(bits >> 16)};
  }
}

/// `count` elements of a kernel's memory that begin `shift` elements after a 16-byte boundary. All are NaN until they are
/// written. The heap block ends with them, so that AddressSanitizer sees what lies beyond; without it, a tail of NaN shows
/// writes.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count, int64_t shift = 0)
      : count_(static_cast<size_t>(count)),
        before_(static_cast<size_t>(shift) * sizeof(T)),
        memory_(new unsigned char[bytes()]) {  // on a 16-byte boundary
    std::memset(memory_.get(), kUntouched, bytes());
  }
  ~Buffer() {
    if (memory_ == nullptr) return;
    const size_t end = before_ + count_ * sizeof(T);
    EXPECT_TRUE(is_untouched(0, before_)) << "written before the beginning of " << count_ << " elements";
    EXPECT_TRUE(is_untouched(end, bytes())) << "written beyond the end of " << count_ << " elements";
  }
  Buffer(Buffer&&) = default;

  T* data() { return reinterpret_cast<T*>(memory_.get() + before_); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.get() + before_); }
  int64_t size() const { return static_cast<int64_t>(count_); }
  T& operator[](int64_t i) { return data()[i]; }
  double at(int64_t i) const { return value_of(data()[i]); }
  bool untouched(int64_t i) const {
    const size_t begin = before_ + static_cast<size_t>(i) * sizeof(T);
    return is_untouched(begin, begin + sizeof(T));
  }

 private:
  static constexpr unsigned char kUntouched = 0xff;
#ifdef PGOLF_ADDRESS_SANITIZER
  static constexpr size_t kTail = 0;
#else
  static constexpr size_t kTail = 64;
#endif

  size_t bytes() const {
    return before_ + count_ * sizeof(T) + kTail;
  }
  bool is_untouched(size_t begin, size_t end) const {
    for (size_t i = begin; i < end; ++i) {
      if (memory_[i] != kUntouched) return false;
    }
    return true;
  }

  size_t count_, before_;
  std::unique_ptr<unsigned char[]> memory_;
};

template <class T>
Buffer<T> normal(int64_t count, int64_t shift = 0, double deviation = 1) {
  Buffer<T> result(count, shift);
  std::normal_distribution<double> distribution(0, deviation);
  for (int64_t i = 0; i < count; ++i) result[i] = nearby<T>(distribution(generator));
  return result;
}

/// f(0), ..., f(count - 1)
template <class F>
std::vector<double> each(int64_t count, const F& f) {
  std::vector<double> result(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) result[static_cast<size_t>(i)] = f(i);
  return result;
}

template <class T>
std::vector<double> doubles(const Buffer<T>& x) {
  return each(x.size(), [&](int64_t i) { return x.at(i); });
}

/// Partial sums, `count` of `width` numbers, added up.
std::vector<double> summed(const Buffer<float>& partials, int64_t count, int64_t width);

/// |got - expected| <= relative |expected| + absolute; NaN where NaN is expected. T: what the values were rounded to.
void expect_close(const char* what, const std::vector<double>& got, const std::vector<double>& expected, double absolute,
                  double relative);
template <class T>
void expect_close(const char* what, const std::vector<double>& got, const std::vector<double>& expected, double absolute) {
  expect_close(what, got, expected, absolute, kRounding<T>);
}
template <class T>
void expect_close(const char* what, const Buffer<T>& got, const std::vector<double>& expected, double absolute) {
  expect_close(what, doubles(got), expected, absolute, kRounding<T>);
}
/// For two forms of one kernel, which must agree exactly.
void expect_equal(const char* what, const std::vector<double>& got, const std::vector<double>& expected);

/// The float32 value.
constexpr double kEps = 1.1920928955078125e-07;

/// For each of x.size() / width rows 1 / sqrt(mean(x^2) + eps).
std::vector<double> reciprocal_rms_of(const std::vector<double>& x, int64_t width);
/// The gradient of rms_norm(x) for the incoming gradient dy, rows of width; r: reciprocal_rms_of(x, width).
std::vector<double> through_norm(const std::vector<double>& dy, const std::vector<double>& x, const std::vector<double>& r,
                                 int64_t width);

}  // namespace pgolf::ops::cuda::testing
