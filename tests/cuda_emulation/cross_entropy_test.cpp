#include "testing.h"

namespace pgolf::ops::cuda::testing {
namespace {

struct LossCase {
  int64_t rows, vocab;
  double cap;  ///< 0: none
  bool gradient = true;
  int64_t shift = 0;
  double deviation = 3;  ///< of the logits
};

std::string text_of(const LossCase& c) {
  return std::to_string(c.rows) + " rows of " + std::to_string(c.vocab) + ", cap " + std::to_string(c.cap) +
         (c.gradient ? "" : ", loss only") + (c.shift != 0 ? ", shifted" : "") +
         (c.deviation == 3 ? "" : ", deviation " + std::to_string(c.deviation));
}

std::vector<LossCase> cases(int64_t max_vocab) {
  if (options.size == Size::quick) {
    return {{5, 5, 30},  {5, 1000, 30, true, 1},     {5, 1024, 30}, {2, 8200, 30}, {5, 1024, 0, false}, {5, 257, 0},
            {5, 100, 2}, {5, 1024, 30, true, 0, 200}};
  }
  std::vector<LossCase> result;
  for (const double cap : {30.0, 0.0, 2.0}) {
    for (const int64_t vocab : {2, 5, 8, 31, 100, 257, 1000, 1024, 1025, 4096}) {
      for (const int64_t shift : {0, 1}) {
        result.push_back({5, vocab, cap, true, shift});
        result.push_back({5, vocab, cap, false, shift});
      }
    }
    for (const int64_t vocab : {8191, 8192, 8193, 8200, 32768, 50257, 65536}) {
      if (vocab <= max_vocab) result.push_back({3, vocab, cap, true, vocab % 2});
    }
    result.push_back({7, 1024, cap, true, 0, 200});
  }
  result.push_back({3, max_vocab, 30});
  return result;
}

template <class T>
class CrossEntropyTest : public KernelTest<T> {};
TYPED_TEST_SUITE(CrossEntropyTest, Elements);

TYPED_TEST(CrossEntropyTest, LossAndGradient) {
  using T = TypeParam;
  this->for_each(cases(kMaxLogitBytes / static_cast<int64_t>(sizeof(T))), [&](const LossCase& c) {
    const auto logits = normal<T>(c.rows * c.vocab, c.shift, c.deviation);
    std::vector<int64_t> targets;
    for (int64_t row = 0; row < c.rows; ++row) targets.push_back(static_cast<int64_t>(generator()) % c.vocab);
    targets.front() = 0;
    targets.back() = c.vocab - 1;
    if (c.rows > 3) {  // invalid: the loss becomes NaN, the gradient has no target
      targets[1] = -100;
      targets[2] = c.vocab;
    }
    Buffer<float> loss(c.rows);
    Buffer<T> gradient(c.gradient ? c.rows * c.vocab : 0, c.shift);
    const float scale = 1.0f / static_cast<float>(c.rows);
    this->kernels.softcap_cross_entropy(logits.data(), targets.data(), static_cast<float>(c.cap), scale, loss.data(),
                                        c.gradient ? gradient.data() : nullptr, c.rows, c.vocab);

    std::vector<double> expected_loss, expected_gradient;
    for (int64_t row = 0; row < c.rows; ++row) {
      const auto tanh_of_logit = each(c.vocab, [&](int64_t i) { return std::tanh(logits.at(row * c.vocab + i) / c.cap); });
      const auto capped =
          each(c.vocab, [&](int64_t i) { return c.cap > 0 ? c.cap * tanh_of_logit[i] : logits.at(row * c.vocab + i); });
      const double largest = *std::max_element(capped.begin(), capped.end());
      double sum = 0;
      for (const double z : capped) sum += std::exp(z - largest);
      const int64_t target = targets[row];
      expected_loss.push_back(target >= 0 && target < c.vocab ? std::log(sum) + largest - capped[target] : NAN);
      for (int64_t i = 0; i < c.vocab && c.gradient; ++i) {
        const double slope = c.cap > 0 ? 1 - tanh_of_logit[i] * tanh_of_logit[i] : 1;
        expected_gradient.push_back(scale * (std::exp(capped[i] - largest) / sum - (i == target ? 1 : 0)) * slope);
      }
    }
    expect_close("softcap_cross_entropy, loss", loss, expected_loss, 1e-5);
    expect_close("softcap_cross_entropy, gradient", gradient, expected_gradient, 1e-7 * scale);
  });
}

}  // namespace
}  // namespace pgolf::ops::cuda::testing
