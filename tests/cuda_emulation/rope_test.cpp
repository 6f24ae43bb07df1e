#include "head_buffer.h"

namespace pgolf::ops::cuda::testing {
namespace {

struct HeadsCase {
  int64_t batch, time, heads, dim, rope_dims;
  bool interleaved = false, normalize = true, gain = true;
  Order from = Order::joined;     ///< of x and dx
  Order to = Order::heads_first;  ///< of y and dy
  int64_t shift = 0;

  int64_t rows() const { return batch * time; }
  HeadSizes sizes() const { return {batch, time, heads, dim}; }
};

std::string text_of(const HeadsCase& c) {
  std::string text;
  for (const int64_t n : {c.batch, c.time, c.heads, c.dim}) text += (text.empty() ? "" : " x ") + std::to_string(n);
  return text + ", " + std::to_string(c.rope_dims) + (c.interleaved ? " interleaved" : "") + " rotated" +
         (c.normalize ? "" : ", no norm") + (c.gain ? "" : ", no gain") + ", " + text_of(c.from) + " to " + text_of(c.to) +
         (c.shift != 0 ? ", shifted" : "");
}

std::vector<HeadsCase> cases(int64_t max_dim) {
  std::vector<HeadsCase> result;
  if (options.size == Size::quick) {
    for (const int64_t dim : {20, 64, 128}) {
      for (const int64_t rope : {0, 2, 6, 16, 20}) {
        for (const bool interleaved : {false, true}) {
          result.push_back(
              {2, 5, 3, dim, rope, interleaved, rope != 6, rope != 2, rope == 20 ? Order::time_first : Order::joined});
        }
      }
    }
    for (const bool interleaved : {false, true}) {
      result.push_back({2, 3, 2, 64, 64, interleaved, true, true, Order::time_first, Order::joined, 1});
    }
    result.push_back({1, 4100, 1, 8, 4});  // more rows than there are partial sums
    return result;
  }
  for (const int64_t dim : {2, 8, 16, 20, 32, 64, 80, 96, 128, 256}) {
    if (dim > max_dim) continue;
    for (int64_t rope = 0; rope <= dim; rope += 2) {
      if (dim > 64 && rope % 16 != 0 && rope != 2 && rope != 6 && rope != dim) continue;
      for (const bool interleaved : {false, true}) {
        result.push_back({2, 5, 3, dim, rope, interleaved});
        result.push_back({1, 7, 2, dim, rope, interleaved, rope % 4 == 0, rope % 8 == 0, Order::time_first,
                          rope % 8 == 0 ? Order::joined : Order::heads_first, rope % 3 == 0});
      }
    }
  }
  result.push_back({3, 13, 8, 64, 16});
  result.push_back({3, 13, 4, 64, 16, false, true, false});
  result.push_back({1, 1, 8, 64, 16});
  if (options.size == Size::big) {
    result.push_back({3, 1400, 1, 64, 16});
    result.push_back({1, 4103, 2, 8, 4, true});
    result.push_back({1, 1030, 129, 8, 4});  // for so many heads there are fewer partial sums
  }
  return result;
}

struct Rotation {
  explicit Rotation(const HeadsCase& c)
      : half(c.rope_dims / 2), interleaved(c.interleaved), cos(c.time * half), sin(c.time * half) {
    for (int64_t i = 0; i < c.time * half; ++i) {
      const double angle = static_cast<double>(i / half) * std::pow(10000.0, -static_cast<double>(i % half) / half);
      cos[i] = static_cast<float>(std::cos(angle));
      sin[i] = static_cast<float>(std::sin(angle));
    }
  }

  RotationTable table() const { return {half > 0 ? cos.data() : nullptr, half > 0 ? sin.data() : nullptr, half, interleaved}; }

  /// x, the dims of one head, rotated by the angles of a time; direction -1: rotated back.
  std::vector<double> rotated(std::vector<double> x, int64_t time, double direction) const {
    for (int64_t i = 0; i < half; ++i) {
      double &a = x[interleaved ? 2 * i : i], &b = x[interleaved ? 2 * i + 1 : i + half];
      const double c = cos.at(time * half + i), s = direction * sin.at(time * half + i);
      std::tie(a, b) = std::pair(a * c + b * s, b * c - a * s);
    }
    return x;
  }

  int64_t half;
  bool interleaved;
  Buffer<float> cos, sin;
};

template <class T>
class RopeTest : public KernelTest<T> {};
TYPED_TEST_SUITE(RopeTest, Elements);

TYPED_TEST(RopeTest, NormRotate) {
  using T = TypeParam;
  this->for_each(cases(kMaxHeadBytes / static_cast<int64_t>(sizeof(T))), [&](const HeadsCase& c) {
    const HeadSizes sizes = c.sizes();
    HeadBuffer<T> x(sizes, c.from, c.shift), y(sizes, c.to, c.shift), dy(sizes, c.to, c.shift), dx(sizes, c.from, c.shift);
    x.fill_normal();
    dy.fill_normal();
    const Rotation rotation(c);
    const auto gain = normal<float>(c.heads);
    const float* const gain_data = c.gain ? gain.data() : nullptr;
    const HeadShape shape{c.time, c.heads, c.dim, c.normalize};
    Buffer<float> rstd(c.rows() * c.heads), dgain(c.gain ? partial_sums(c.rows(), c.heads) * c.heads : 0);
    this->kernels.norm_rotate(std::as_const(x).heads(), y.heads(), rstd.data(), rotation.table(), gain_data, shape, 0, c.rows());
    this->kernels.norm_rotate_backward(std::as_const(dy).heads(), std::as_const(x).heads(), rstd.data(), rotation.table(),
                                       gain_data, dx.heads(), c.gain ? dgain.data() : nullptr, shape, 0, c.rows());

    const auto xs = x.values(), dys = dy.values();
    auto r = reciprocal_rms_of(xs, c.dim);
    if (!c.normalize) r.assign(r.size(), 1.0);
    std::vector<double> expected_y, expected_dx, expected_dgain(c.heads);
    for (int64_t row_head = 0; row_head < c.rows() * c.heads; ++row_head) {
      const int64_t head = row_head % c.heads, time = row_head / c.heads % c.time;
      const auto head_values = [&](const std::vector<double>& all) {
        return std::vector(all.begin() + row_head * c.dim, all.begin() + (row_head + 1) * c.dim);
      };
      const auto own = head_values(xs), ahead = rotation.rotated(own, time, 1),
                 back = rotation.rotated(head_values(dys), time, -1);
      const double g = c.gain ? gain.at(head) : 1, q = r[row_head];
      for (int64_t i = 0; i < c.dim; ++i) expected_dgain[head] += q * own[i] * back[i];
      const auto through = c.normalize ? through_norm(back, own, {q}, c.dim) : back;
      for (int64_t i = 0; i < c.dim; ++i) {
        expected_y.push_back(g * q * ahead[i]);
        expected_dx.push_back(g * through[i]);
      }
    }
    expect_close("norm_rotate, rstd", rstd, r, 0);
    expect_close<T>("norm_rotate", y.values(), expected_y, 2e-6);
    expect_close<T>("norm_rotate_backward, dx", dx.values(), expected_dx, 1e-5);
    if (c.gain) {
      expect_close<float>("norm_rotate_backward, dgain", summed(dgain, partial_sums(c.rows(), c.heads), c.heads), expected_dgain,
                          2e-6 * std::sqrt(static_cast<double>(c.rows() * c.dim)));
    }
    y.expect_untouched_between();
    dx.expect_untouched_between();

    HeadBuffer<T> alone(sizes, c.to, c.shift);
    this->kernels.norm_rotate(std::as_const(x).heads(), alone.heads(), nullptr, rotation.table(), gain_data, shape, 0, c.rows());
    expect_equal("norm_rotate without rstd", alone.values(), y.values());
  });
}

}  // namespace
}  // namespace pgolf::ops::cuda::testing
