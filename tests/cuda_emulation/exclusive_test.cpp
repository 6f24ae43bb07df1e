#include "head_buffer.h"

namespace pgolf::ops::cuda::testing {
namespace {

struct GroupsCase {
  int64_t batch, time, kv_heads, group, dim;
  Order y = Order::time_first;  ///< of y and dy
  Order v = Order::joined;      ///< of v and dv
  int64_t shift = 0;
  double length = 1;  ///< the values' size; every fourth value is zero

  int64_t heads() const { return kv_heads * group; }
  int64_t rows() const { return batch * time; }
};

std::string text_of(const GroupsCase& c) {
  std::string text;
  for (const int64_t n : {c.batch, c.time, c.kv_heads, c.group, c.dim}) text += (text.empty() ? "" : " x ") + std::to_string(n);
  return text + ", y " + text_of(c.y) + ", v " + text_of(c.v) + (c.shift != 0 ? ", shifted" : "") +
         (c.length != 1 ? ", short values" : "");
}

std::vector<GroupsCase> cases(int64_t max_dim) {
  std::vector<GroupsCase> result;
  const bool quick = options.size == Size::quick;
  for (const int64_t dim :
       quick ? std::vector<int64_t>{1, 7, 64, 96} : std::vector<int64_t>{1, 2, 7, 8, 16, 20, 64, 65, 96, 128, 256}) {
    if (dim > max_dim) continue;
    for (const int64_t group : {1, 2, 4}) {
      result.push_back({2, 5, 3, group, dim});
      if (quick && group != 2) continue;
      result.push_back({1, 7, 2, group, dim, Order::heads_first, Order::heads_first});
      result.push_back({2, 1, 2, group, dim, Order::joined, Order::time_first, 1});
    }
  }
  result.push_back({2, 5, 2, 2, 64, Order::time_first, Order::joined, 0, 1e-14});
  result.push_back({1, 1, 1, 1, 64});
  if (options.size == Size::big) result.push_back({3, 1400, 4, 2, 64});
  return result;
}

/// What is expected of the heads of one value.
struct Expected {
  std::vector<double> rest, dy, dv;
};
Expected expected_of(const std::vector<double>& y, const std::vector<double>& v, const std::vector<double>& g, int64_t group) {
  const auto dim = static_cast<int64_t>(v.size());
  double square = 0;
  for (const double x : v) square += x * x;
  const double bound = 1e-12, length = std::max(std::sqrt(square), bound);
  std::vector<double> n(v), dn(v.size());
  for (double& x : n) x /= length;
  Expected result;
  for (int64_t member = 0; member < group; ++member) {
    double p = 0, c = 0;
    for (int64_t i = 0; i < dim; ++i) p += y[member * dim + i] * n[i], c += g[member * dim + i] * n[i];
    for (int64_t i = 0; i < dim; ++i) {
      const double own = y[member * dim + i], gradient = g[member * dim + i];
      result.rest.push_back(own - p * n[i]);
      result.dy.push_back(gradient - c * n[i]);
      dn[i] -= c * own + p * gradient;
    }
  }
  double along = 0;
  for (int64_t i = 0; i < dim; ++i) along += dn[i] * n[i];
  if (length == bound) along = 0;
  for (int64_t i = 0; i < dim; ++i) result.dv.push_back((dn[i] - along * n[i]) / length);
  return result;
}

template <class T>
class ExclusiveTest : public KernelTest<T> {};
TYPED_TEST_SUITE(ExclusiveTest, Elements);

TYPED_TEST(ExclusiveTest, ExcludeValue) {
  using T = TypeParam;
  this->for_each(cases(kMaxHeadBytes / static_cast<int64_t>(sizeof(T))), [&](const GroupsCase& c) {
    const HeadSizes queries{c.batch, c.time, c.heads(), c.dim}, values{c.batch, c.time, c.kv_heads, c.dim};
    HeadBuffer<T> y(queries, c.y, c.shift), dy(queries, c.y, c.shift), v(values, c.v, c.shift), dv(values, c.v, c.shift);
    HeadBuffer<T> rest(queries, Order::time_first, c.shift), drest(queries, Order::time_first, c.shift);
    y.fill_normal();
    drest.fill_normal();
    std::normal_distribution<double> distribution(0, c.length);
    v.fill([&](int64_t i) { return i / c.dim % 4 == 3 ? 0 : distribution(generator); });
    const GroupShape shape{c.time, c.kv_heads, c.group, c.dim};
    this->kernels.exclude_value(std::as_const(y).heads(), std::as_const(v).heads(), rest.heads(), shape, 0, c.rows());
    this->kernels.exclude_value_backward(std::as_const(drest).heads(), std::as_const(y).heads(), std::as_const(v).heads(),
                                         dy.heads(), dv.heads(), shape, 0, c.rows());

    const auto ys = y.values(), vs = v.values(), gs = drest.values();
    Expected all;
    double longest = 0;  // 1 / |v|, by which errors of dv grow
    for (int64_t value = 0; value < c.rows() * c.kv_heads; ++value) {
      const auto part = [&](const std::vector<double>& of, int64_t size) {
        return std::vector(of.begin() + value * size, of.begin() + (value + 1) * size);
      };
      const auto own = part(vs, c.dim);
      const Expected one = expected_of(part(ys, c.group * c.dim), own, part(gs, c.group * c.dim), c.group);
      double square = 0;
      for (const double x : own) square += x * x;
      if (square > 0) longest = std::max(longest, 1 / std::max(std::sqrt(square), 1e-12));
      const auto append = [](std::vector<double>& to, const std::vector<double>& from) {
        to.insert(to.end(), from.begin(), from.end());
      };
      append(all.rest, one.rest), append(all.dy, one.dy), append(all.dv, one.dv);
    }
    expect_close<T>("exclude_value", rest.values(), all.rest, 5e-6);
    expect_close<T>("exclude_value_backward, dy", dy.values(), all.dy, 5e-6);
    expect_close<T>("exclude_value_backward, dv", dv.values(), all.dv, 2e-5 * longest);
    for (const auto* written : {&rest, &dy, &dv}) written->expect_untouched_between();
  });
}

}  // namespace
}  // namespace pgolf::ops::cuda::testing
