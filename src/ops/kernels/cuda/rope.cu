// qk_norm_rope_gain. A few lanes of a warp hold one head of one row, one pack each; blocks of one head step through the
// rows, so that the gain's gradient can be summed in a register.
#include "heads.cuh"
#include "kernels.h"

namespace pgolf::ops::cuda {
namespace {

constexpr int kThreads = 256;

struct Layout {
  HeadShape shape;
  int64_t rows;
  int64_t steps;  ///< rows worked on at once for each head: also the number of partial sums
  int lanes;      ///< threads per head, a power of two up to 32
  bool aligned;
};

__device__ Angles angles_at(const RotationTable& table, int64_t time) {
  return {table.cos + time * table.half, table.sin + time * table.half, table.half, table.interleaved};
}

/// Which head and rows this thread works on. As in for_rows of residual.cu all threads run the same number of
/// iterations.
struct Place {
  __device__ explicit Place(const Layout& layout)
      : index(static_cast<int64_t>(blockIdx.x) * (kThreads / layout.lanes) + threadIdx.x / layout.lanes),
        lane(static_cast<int>(threadIdx.x) % layout.lanes) {}

  int64_t index;
  int lane;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    norm_rotate_kernel(Heads<const T*> x, Heads<T*> y, float* rstd, RotationTable table, const float* gain, Layout layout) {
  const HeadShape shape = layout.shape;
  const Place place(layout);
  const int64_t first = place.lane * kPack<T>;
  const float head_gain = gain != nullptr ? gain[blockIdx.y] : 1.0f;
  for (int64_t begin = 0; begin < layout.rows; begin += layout.steps) {
    const int64_t row = begin + place.index;
    const bool active = place.index < layout.steps && row < layout.rows;
    const T* const from = head_of(x, shape.time, active ? row : 0, blockIdx.y);
    const Pack<T> own = active ? load_pack(from, first, shape.dim, layout.aligned) : Pack<T>{};
    const float norm = reciprocal_rms(sum_of_lanes(dot(own, own), layout.lanes), shape.dim), r = shape.normalize ? norm : 1.0f;
    if (!active) continue;
    const Pack<T> rotated_x = rotated(own, from, first, shape.dim, layout.aligned, angles_at(table, row % shape.time), 1.0f);
    store_pack(head_of(y, shape.time, row, blockIdx.y), first, shape.dim, layout.aligned, scaled(rotated_x, r * head_gain));
    if (rstd != nullptr && place.lane == 0) rstd[row * shape.heads + blockIdx.y] = r;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    norm_rotate_backward_kernel(Heads<const T*> dy, Heads<const T*> x, const float* rstd, RotationTable table, const float* gain,
                                Heads<T*> dx, float* dgain, Layout layout) {
  const HeadShape shape = layout.shape;
  const Place place(layout);
  const int64_t first = place.lane * kPack<T>;
  const float head_gain = gain != nullptr ? gain[blockIdx.y] : 1.0f;
  float gain_sum = 0;
  for (int64_t begin = 0; begin < layout.rows; begin += layout.steps) {
    const int64_t row = begin + place.index;
    const bool active = place.index < layout.steps && row < layout.rows;
    Pack<T> u{}, own{};
    float r = 0;
    if (active) {
      const T* const gradient = head_of(dy, shape.time, row, blockIdx.y);
      u = rotated(load_pack(gradient, first, shape.dim, layout.aligned), gradient, first, shape.dim, layout.aligned,
                  angles_at(table, row % shape.time), -1.0f);
      own = load_pack(head_of(x, shape.time, row, blockIdx.y), first, shape.dim, layout.aligned);
      r = rstd[row * shape.heads + blockIdx.y];
    }
    const float product = sum_of_lanes(dot(u, own), layout.lanes) * r;
    gain_sum += product;
    const float factor = r * head_gain;
    const float along = shape.normalize ? factor * product * r / static_cast<float>(shape.dim) : 0.0f;
    if (active)
      store_pack(head_of(dx, shape.time, row, blockIdx.y), first, shape.dim, layout.aligned, combined(factor, u, -along, own));
  }
  if (dgain != nullptr && place.lane == 0 && place.index < layout.steps) {
    dgain[place.index * shape.heads + blockIdx.y] = gain_sum;
  }
}

template <class T>
Layout layout_of(HeadShape shape, int64_t rows, bool aligned) {
  return {shape, rows, partial_sums(rows, shape.heads), lanes_of<T>(shape.dim), aligned};
}

dim3 blocks_of(const Layout& layout) {
  return dim3(static_cast<unsigned>(ceil_div<int64_t>(layout.steps, kThreads / layout.lanes)),
              static_cast<unsigned>(layout.shape.heads));
}

}  // namespace

template <class T>
void RopeKernels<T>::norm_rotate(Heads<const T*> x, Heads<T*> y, float* rstd, RotationTable table, const float* gain,
                                 HeadShape shape, int64_t, int64_t rows) const {
  const Layout layout =
      layout_of<T>(shape, rows, heads_on_boundaries<T>(x) && heads_on_boundaries<T>(y) && on_boundaries(table.cos, table.sin));
  launch<kThreads>(norm_rotate_kernel<T>, blocks_of(layout), kThreads, stream, x, y, rstd, table, gain, layout);
}

template <class T>
void RopeKernels<T>::norm_rotate_backward(Heads<const T*> dy, Heads<const T*> x, const float* rstd, RotationTable table,
                                          const float* gain, Heads<T*> dx, float* dgain, HeadShape shape, int64_t,
                                          int64_t rows) const {
  const bool aligned = heads_on_boundaries<T>(dy) && heads_on_boundaries<T>(x) && heads_on_boundaries<T>(dx) &&
                       on_boundaries(table.cos, table.sin);
  const Layout layout = layout_of<T>(shape, rows, aligned);
  launch<kThreads>(norm_rotate_backward_kernel<T>, blocks_of(layout), kThreads, stream, dy, x, rstd, table, gain, dx, dgain,
                   layout);
}

template struct RopeKernels<float>;
template struct RopeKernels<Bf16>;

}  // namespace pgolf::ops::cuda
