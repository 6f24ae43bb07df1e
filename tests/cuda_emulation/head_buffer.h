// Heads in memory of a test, in the orders in which kernels meet them.
#pragma once

#include "testing.h"

namespace pgolf::ops::cuda::testing {

/// In memory [batch, time, heads, dim], [batch, heads, time, dim], or as the first with other numbers before and after the heads
/// of one time, as queries and keys lie in the output of one joined projection.
enum class Order { time_first, heads_first, joined };

inline const char* text_of(Order order) {
  return order == Order::joined ? "joined" : order == Order::time_first ? "time first" : "heads first";
}

struct HeadSizes {
  int64_t batch, time, heads, dim;

  int64_t count() const { return batch * time * heads * dim; }
};

/// Begins `shift` elements after a 16-byte boundary.
template <class T>
class HeadBuffer {
 public:
  HeadBuffer(const HeadSizes& sizes, Order order, int64_t shift)
      : sizes_(sizes),
        margin_(order == Order::joined ? 8 : 0),
        time_stride_(order == Order::heads_first ? sizes.dim : sizes.heads * sizes.dim + 3 * margin_),
        head_stride_(order == Order::heads_first ? sizes.time * sizes.dim : sizes.dim),
        batch_stride_(order == Order::heads_first ? sizes.heads * sizes.time * sizes.dim : sizes.time * time_stride_),
        buffer_(sizes.batch * batch_stride_, shift) {}

  Heads<T*> heads() { return {buffer_.data() + margin_, batch_stride_, time_stride_, head_stride_}; }
  Heads<const T*> heads() const { return {buffer_.data() + margin_, batch_stride_, time_stride_, head_stride_}; }

  /// All elements as [batch, time, heads, dim].
  std::vector<double> values() const {
    return each(sizes_.count(), [&](int64_t i) { return buffer_.at(index(i)); });
  }
  /// f(i) for element i of values().
  template <class F>
  void fill(const F& f) {
    for (int64_t i = 0; i < sizes_.count(); ++i) buffer_[index(i)] = nearby<T>(f(i));
  }
  void fill_normal() {
    std::normal_distribution<double> distribution;
    fill([&](int64_t) { return distribution(generator); });
  }
  void expect_untouched_between() const {
    int64_t untouched = 0;
    for (int64_t i = 0; i < buffer_.size(); ++i) untouched += buffer_.untouched(i) ? 1 : 0;
    EXPECT_EQ(untouched, buffer_.size() - sizes_.count());
  }

 private:
  int64_t index(int64_t i) const {
    const int64_t dim = i % sizes_.dim, head = i / sizes_.dim % sizes_.heads, row = i / (sizes_.dim * sizes_.heads);
    return margin_ + row / sizes_.time * batch_stride_ + row % sizes_.time * time_stride_ + head * head_stride_ + dim;
  }

  HeadSizes sizes_;
  int64_t margin_, time_stride_, head_stride_, batch_stride_;
  Buffer<T> buffer_;
};

}  // namespace pgolf::ops::cuda::testing
