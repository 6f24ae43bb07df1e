#include "testing.h"

namespace pgolf::ops::cuda::testing {
namespace {

struct ElementsCase {
  int64_t count, shift;
};

std::string text_of(const ElementsCase& c) {
  return std::to_string(c.count) + " elements" + (c.shift != 0 ? ", shifted" : "");
}

std::vector<ElementsCase> cases() {
  if (options.size == Size::quick) return {{7, 1}, {8, 0}, {2049, 0}, {2049, 1}};
  std::vector<ElementsCase> result;
  for (const int64_t count : {1, 7, 8, 9, 100, 2048, 2049, 70001}) {
    for (const int64_t shift : {0, 1}) result.push_back({count, shift});
  }
  if (options.size == Size::big) result.push_back({4 * 256 * 16384 + 5, 0});  // threads loop, in float32
  return result;
}

double sigmoid_of(double x) {
  return 1 / (1 + std::exp(-x));
}

template <class T>
class MlpTest : public KernelTest<T> {};
TYPED_TEST_SUITE(MlpTest, Elements);

TYPED_TEST(MlpTest, LeakySquared) {
  using T = TypeParam;
  constexpr float kSlopeSquared = 0.25f;
  this->for_each(cases(), [&](const ElementsCase& c) {
    const auto x = normal<T>(c.count, c.shift, 2), dy = normal<T>(c.count, c.shift);
    Buffer<T> y(c.count, c.shift), dx(c.count, c.shift);
    const auto factor = [&](int64_t i) { return x.at(i) > 0 ? 1 : kSlopeSquared; };
    this->kernels.leaky_squared(x.data(), kSlopeSquared, y.data(), c.count);
    expect_close("leaky_squared", y, each(c.count, [&](int64_t i) { return factor(i) * x.at(i) * x.at(i); }), 0);
    this->kernels.leaky_squared_backward(dy.data(), x.data(), kSlopeSquared, dx.data(), c.count);
    expect_close("leaky_squared_backward", dx, each(c.count, [&](int64_t i) { return 2 * factor(i) * x.at(i) * dy.at(i); }), 0);
  });
}

TYPED_TEST(MlpTest, Swiglu) {
  using T = TypeParam;
  this->for_each(cases(), [&](const ElementsCase& c) {
    const auto gate = normal<T>(c.count, c.shift, 2), up = normal<T>(c.count, c.shift), dy = normal<T>(c.count, c.shift);
    Buffer<T> y(c.count, c.shift), dgate(c.count, c.shift), dup(c.count, c.shift);
    this->kernels.swiglu(gate.data(), up.data(), y.data(), c.count);
    expect_close("swiglu", y, each(c.count, [&](int64_t i) { return gate.at(i) * sigmoid_of(gate.at(i)) * up.at(i); }), 0);
    this->kernels.swiglu_backward(dy.data(), gate.data(), up.data(), dgate.data(), dup.data(), c.count);
    const auto slope = [](double x) { return sigmoid_of(x) * (1 + x * (1 - sigmoid_of(x))); };
    expect_close("swiglu_backward, gate", dgate,
                 each(c.count, [&](int64_t i) { return dy.at(i) * up.at(i) * slope(gate.at(i)); }), 1e-6);
    expect_close("swiglu_backward, up", dup,
                 each(c.count, [&](int64_t i) { return dy.at(i) * gate.at(i) * sigmoid_of(gate.at(i)); }), 0);
  });
}

TYPED_TEST(MlpTest, Scale) {
  using T = TypeParam;
  this->for_each(cases(), [&](const ElementsCase& c) {
    for (const float by : {0.125f, 1.0f, -3.0f}) {
      auto x = normal<T>(c.count, c.shift);
      const auto before = doubles(x);
      Buffer<float> factor(1);
      factor[0] = by;
      this->kernels.scale(x.data(), factor.data(), c.count);
      expect_close("scale", x, each(c.count, [&](int64_t i) { return before[i] * by; }), 0);
    }
  });
}

}  // namespace
}  // namespace pgolf::ops::cuda::testing
