// exclude_value. A few lanes of a warp hold one value of one row, one pack each, and step through the heads that share it.
#include "heads.cuh"
#include "kernels.h"

namespace pgolf::ops::cuda {
namespace {

constexpr int kThreads = 256;

struct Layout {
  GroupShape shape;
  int64_t rows;
  int lanes;  ///< threads per head
  bool aligned;
};

/// One thread's pack of the heads of one group in one row. All threads take part in sums; those that have no group left must
/// neither read nor write.
template <class T>
struct Group {
  __device__ explicit Group(const Layout& all)
      : layout(all),
        index(static_cast<int64_t>(blockIdx.x) * (kThreads / all.lanes) + threadIdx.x / all.lanes),
        first(static_cast<int>(threadIdx.x) % all.lanes * kPack<T>),
        active(index < all.rows * all.shape.kv_heads) {}

  /// The group's value, or its query heads.
  template <class Pointer>
  __device__ Pointer value_of(const Heads<Pointer>& x) const {
    return head_of(x, layout.shape.time, row(), index % layout.shape.kv_heads);
  }
  template <class Pointer>
  __device__ Pointer member_of(const Heads<Pointer>& x, int64_t member) const {
    return head_of(x, layout.shape.time, row(), index % layout.shape.kv_heads * layout.shape.group + member);
  }
  __device__ Pack<T> load(const T* head) const { return load_pack(head, first, layout.shape.dim, layout.aligned); }
  __device__ void store(T* head, const Pack<T>& pack) const { store_pack(head, first, layout.shape.dim, layout.aligned, pack); }
  __device__ float sum(float value) const { return sum_of_lanes(value, layout.lanes); }
  __device__ int64_t row() const { return index / layout.shape.kv_heads; }

  Layout layout;
  int64_t index, first;
  bool active;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    exclude_value_kernel(Heads<const T*> y, Heads<const T*> v, Heads<T*> rest, Layout layout) {
  const Group<T> group(layout);
  const Pack<T> value = group.active ? group.load(group.value_of(v)) : Pack<T>{};
  const float r = direction_of(group.sum(dot(value, value))).r;
  for (int64_t member = 0; member < layout.shape.group; ++member) {
    const Pack<T> own = group.active ? group.load(group.member_of(y, member)) : Pack<T>{};
    const float along = r * group.sum(dot(own, value));
    if (group.active) group.store(group.member_of(rest, member), without(own, along, value, r));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    exclude_value_backward_kernel(Heads<const T*> drest, Heads<const T*> y, Heads<const T*> v, Heads<T*> dy, Heads<T*> dv,
                                  Layout layout) {
  const Group<T> group(layout);
  const Pack<T> value = group.active ? group.load(group.value_of(v)) : Pack<T>{};
  const Direction n = direction_of(group.sum(dot(value, value)));
  Pack<T> sums{};
  float product = 0;
  for (int64_t member = 0; member < layout.shape.group; ++member) {
    const Pack<T> own = group.active ? group.load(group.member_of(y, member)) : Pack<T>{};
    const Pack<T> gradient = group.active ? group.load(group.member_of(drest, member)) : Pack<T>{};
    const float p = n.r * group.sum(dot(own, value)), c = n.r * group.sum(dot(gradient, value));
    product += c * p;
    sums = combined(1.0f, sums, 1.0f, combined(c, own, p, gradient));
    if (group.active) group.store(group.member_of(dy, member), without(gradient, c, value, n.r));
  }
  if (group.active) group.store(group.value_of(dv), value_gradient(sums, product, value, n));
}

dim3 blocks_of(const Layout& layout) {
  return dim3(static_cast<unsigned>(ceil_div<int64_t>(layout.rows * layout.shape.kv_heads, kThreads / layout.lanes)));
}

}  // namespace

template <class T>
void ExclusiveKernels<T>::exclude_value(Heads<const T*> y, Heads<const T*> v, Heads<T*> rest, GroupShape shape, int64_t,
                                        int64_t rows) const {
  const bool aligned = heads_on_boundaries<T>(y) && heads_on_boundaries<T>(v) && heads_on_boundaries<T>(rest);
  const Layout layout{shape, rows, lanes_of<T>(shape.dim), aligned};
  launch<kThreads>(exclude_value_kernel<T>, blocks_of(layout), kThreads, stream, y, v, rest, layout);
}

template <class T>
void ExclusiveKernels<T>::exclude_value_backward(Heads<const T*> drest, Heads<const T*> y, Heads<const T*> v, Heads<T*> dy,
                                                 Heads<T*> dv, GroupShape shape, int64_t, int64_t rows) const {
  const bool aligned = heads_on_boundaries<T>(drest) && heads_on_boundaries<T>(y) && heads_on_boundaries<T>(v) &&
                       heads_on_boundaries<T>(dy) && heads_on_boundaries<T>(dv);
  const Layout layout{shape, rows, lanes_of<T>(shape.dim), aligned};
  launch<kThreads>(exclude_value_backward_kernel<T>, blocks_of(layout), kThreads, stream, drest, y, v, dy, dv, layout);
}

template struct ExclusiveKernels<float>;
template struct ExclusiveKernels<Bf16>;

}  // namespace pgolf::ops::cuda
