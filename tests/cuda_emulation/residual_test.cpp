#include "testing.h"

namespace pgolf::ops::cuda::testing {
namespace {

struct RowsCase {
  int64_t rows, width, shift = 0;
  int64_t count() const { return rows * width; }
};

std::string text_of(const RowsCase& c) {
  return std::to_string(c.rows) + " rows of " + std::to_string(c.width) + (c.shift != 0 ? ", shifted" : "");
}

/// max_width: of the widest rows; sums: whether the kernels write partial sums.
std::vector<RowsCase> cases(int64_t max_width, bool sums) {
  std::vector<RowsCase> result;
  if (options.size == Size::quick) {
    for (const int64_t shift : {0, 1}) {
      for (const int64_t width : {20, 64, 512, 1000}) result.push_back({width == 64 ? 33 : 3, width, shift});
    }
    result.push_back({2, max_width});
    if (sums) result.push_back({1027, 136});  // more than there are partial sums
    return result;
  }
  for (const int64_t shift : {0, 1}) {
    for (const int64_t width : {2, 3, 8, 20, 64, 100, 128, 256, 264, 384, 512, 520, 768, 1024}) {
      for (const int64_t rows : {1, 2, 3, 33}) result.push_back({rows, width, shift});
    }
    for (const int64_t width : {max_width, max_width - 1, max_width - 8}) result.push_back({3, width, shift});
  }
  result.push_back({2053, 512, 0});
  result.push_back({1025, 1000, 1});
  if (options.size == Size::big) {
    result.push_back({4099, 64});  // more than teams of the forward kernels
    result.push_back({4097, 512});
    result.push_back({8195, 32});
  }
  return result;
}

/// Absolute tolerances: outputs, sums over a row and its gradients, sums over all rows.
constexpr double kElement = 1e-6, kRowSum = 1e-5;
double sum_tolerance(int64_t rows) {
  return 2e-6 * std::sqrt(static_cast<double>(rows)) + 2e-6;
}

template <class T>
class ResidualTest : public KernelTest<T> {
 protected:
  static std::vector<RowsCase> cases_here(bool sums) { return cases(kMaxRowBytes / static_cast<int64_t>(sizeof(T)), sums); }
};
TYPED_TEST_SUITE(ResidualTest, Elements);

constexpr float kFactor = 0.75f;  ///< of norms

std::vector<double> times_factor(std::vector<double> values) {
  for (auto& value : values) value *= kFactor;
  return values;
}

/// The second output of an op whose first is y, or (for tests without one) none; and the gradient through it.
template <class T>
struct SecondOutput {
  SecondOutput(const RowsCase& c, bool with)
      : with(with), normed(with ? c.count() : 0, c.shift), rstd(with ? c.rows : 0), dnormed(normal<T>(c.count(), c.shift)) {}

  T* normed_data() { return with ? normed.data() : nullptr; }
  float* rstd_data() { return with ? rstd.data() : nullptr; }
  NormedOutput<T> for_backward(const Buffer<T>& y) const {
    return with ? NormedOutput<T>{dnormed.data(), y.data(), rstd.data(), kFactor} : NormedOutput<T>{};
  }
  void expect_rms_norm_of(const Buffer<T>& y, int64_t width) const {
    if (!with) return;
    const auto r = reciprocal_rms_of(doubles(y), width);
    expect_close("rstd of the second output", rstd, r, kElement);
    expect_close("second output", normed, each(y.size(), [&](int64_t i) { return kFactor * y.at(i) * r[i / width]; }), kElement);
  }
  /// The gradient at y, with dy incoming directly.
  std::vector<double> incoming(const Buffer<T>& dy, const Buffer<T>& y, int64_t width) const {
    auto result = doubles(dy);
    if (!with) return result;
    const auto through = through_norm(times_factor(doubles(dnormed)), doubles(y), reciprocal_rms_of(doubles(y), width), width);
    for (size_t i = 0; i < result.size(); ++i) result[i] += through[i];
    return result;
  }

  bool with;
  Buffer<T> normed;
  Buffer<float> rstd;
  Buffer<T> dnormed;
};

/// For each column the sum over rows of a * b.
template <class T>
std::vector<double> column_sums(const std::vector<double>& a, const Buffer<T>& b, int64_t width) {
  std::vector<double> sums(static_cast<size_t>(width));
  for (int64_t i = 0; i < b.size(); ++i) sums[i % width] += a[i] * b.at(i);
  return sums;
}

TYPED_TEST(ResidualTest, RmsNorm) {
  using T = TypeParam;
  this->for_each(this->cases_here(false), [&](const RowsCase& c) {
    const auto x = normal<T>(c.count(), c.shift), dy = normal<T>(c.count(), c.shift);
    Buffer<T> y(c.count(), c.shift), dx(c.count(), c.shift), alone(c.count(), c.shift);
    Buffer<float> rstd(c.rows);
    this->kernels.rms_norm(x.data(), kFactor, y.data(), rstd.data(), c.rows, c.width);
    const auto r = reciprocal_rms_of(doubles(x), c.width);
    expect_close("rms_norm, rstd", rstd, r, 0);
    expect_close("rms_norm", y, each(c.count(), [&](int64_t i) { return kFactor * x.at(i) * r[i / c.width]; }), kElement);
    this->kernels.rms_norm(x.data(), kFactor, alone.data(), nullptr, c.rows, c.width);
    expect_equal("rms_norm without rstd", doubles(alone), doubles(y));
    this->kernels.rms_norm_backward(dy.data(), x.data(), rstd.data(), kFactor, dx.data(), c.rows, c.width);
    expect_close("rms_norm_backward", dx, through_norm(times_factor(doubles(dy)), doubles(x), r, c.width), kRowSum);
  });
}

template <class T>
void check_residual_mix(const Kernels<T>& kernels, const RowsCase& c, bool with_second) {
  const int64_t width = c.width, partials = partial_sums(c.rows, width);
  const auto x = normal<T>(c.count(), c.shift), x0 = normal<T>(c.count(), c.shift), dy = normal<T>(c.count(), c.shift);
  const auto mix = normal<float>(2 * width, c.shift);
  SecondOutput<T> second(c, with_second);
  Buffer<T> y(c.count(), c.shift), dx(c.count(), c.shift), dx0(c.count(), c.shift);
  Buffer<float> dmix(partials * 2 * width);
  kernels.residual_mix(x.data(), x0.data(), mix.data(), y.data(), kFactor, second.normed_data(), second.rstd_data(), c.rows,
                       width);
  expect_close("residual_mix", y,
               each(c.count(), [&](int64_t i) { return x.at(i) * mix.at(i % width) + x0.at(i) * mix.at(width + i % width); }),
               kElement);
  second.expect_rms_norm_of(y, width);

  kernels.residual_mix_backward(dy.data(), second.for_backward(y), x.data(), x0.data(), mix.data(), dx.data(), dx0.data(),
                                dmix.data(), c.rows, width);
  const auto d = second.incoming(dy, y, width);
  expect_close("residual_mix_backward, dx", dx, each(c.count(), [&](int64_t i) { return d[i] * mix.at(i % width); }), kRowSum);
  expect_close("residual_mix_backward, dx0", dx0, each(c.count(), [&](int64_t i) { return d[i] * mix.at(width + i % width); }),
               kRowSum);
  auto expected = column_sums(d, x, width);
  const auto of_x0 = column_sums(d, x0, width);
  expected.insert(expected.end(), of_x0.begin(), of_x0.end());
  expect_close<float>("residual_mix_backward, dmix", summed(dmix, partials, 2 * width), expected, sum_tolerance(c.rows));
}

TYPED_TEST(ResidualTest, ResidualMix) {
  this->for_each(this->cases_here(true), [&](const RowsCase& c) { check_residual_mix(this->kernels, c, false); });
}

TYPED_TEST(ResidualTest, ResidualMixAndNorm) {
  this->for_each(this->cases_here(true), [&](const RowsCase& c) { check_residual_mix(this->kernels, c, true); });
}

template <class T>
void check_scaled_add(const Kernels<T>& kernels, const RowsCase& c, bool with_second) {
  const int64_t width = c.width, partials = partial_sums(c.rows, width);
  const auto x = normal<T>(c.count(), c.shift), branch = normal<T>(c.count(), c.shift), dy = normal<T>(c.count(), c.shift);
  const auto scale = normal<float>(width, c.shift);
  SecondOutput<T> second(c, with_second);
  Buffer<T> y(c.count(), c.shift), dx(with_second ? c.count() : 0, c.shift), dbranch(c.count(), c.shift);
  Buffer<float> dscale(partials * width);
  kernels.scaled_add(x.data(), scale.data(), branch.data(), y.data(), kFactor, second.normed_data(), second.rstd_data(), c.rows,
                     width);
  expect_close("scaled_add", y, each(c.count(), [&](int64_t i) { return x.at(i) + scale.at(i % width) * branch.at(i); }),
               kElement);
  second.expect_rms_norm_of(y, width);

  kernels.scaled_add_backward(dy.data(), second.for_backward(y), scale.data(), branch.data(), with_second ? dx.data() : nullptr,
                              dbranch.data(), dscale.data(), c.rows, width);
  const auto d = second.incoming(dy, y, width);
  if (with_second) expect_close("scaled_add_backward, dx", dx, d, kRowSum);
  expect_close("scaled_add_backward, dbranch", dbranch, each(c.count(), [&](int64_t i) { return d[i] * scale.at(i % width); }),
               kRowSum);
  expect_close<float>("scaled_add_backward, dscale", summed(dscale, partials, width), column_sums(d, branch, width),
                      sum_tolerance(c.rows));
}

TYPED_TEST(ResidualTest, ScaledAdd) {
  this->for_each(this->cases_here(true), [&](const RowsCase& c) { check_scaled_add(this->kernels, c, false); });
}

TYPED_TEST(ResidualTest, ScaledAddAndNorm) {
  this->for_each(this->cases_here(true), [&](const RowsCase& c) { check_scaled_add(this->kernels, c, true); });
}

}  // namespace
}  // namespace pgolf::ops::cuda::testing
