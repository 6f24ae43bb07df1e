// leaky_squared, swiglu and scale: one pack per thread and iteration, as one row of `count` elements.
#include "kernels.h"
#include "team.cuh"

namespace pgolf::ops::cuda {
namespace {

constexpr int kThreads = 256;

/// f(first element of a pack) for all packs.
template <class T, class F>
__device__ void for_packs(int64_t count, const F& f) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * kPack<T>;
  for (int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPack<T>; first < count; first += step) {
    f(first);
  }
}

template <class T>
__global__ void leaky_squared_kernel(const T* x, float slope_squared, T* y, int64_t count, bool aligned) {
  for_packs<T>(count, [&](int64_t first) {
    const Pack<T> a = load_pack(x, first, count, aligned);
    store_pack(y, first, count, aligned, pack_of<T>([&](int i) { return leaky_squared(a.elements[i], slope_squared); }));
  });
}

template <class T>
__global__ void leaky_squared_backward_kernel(const T* dy, const T* x, float slope_squared, T* dx, int64_t count, bool aligned) {
  for_packs<T>(count, [&](int64_t first) {
    const Pack<T> d = load_pack(dy, first, count, aligned), a = load_pack(x, first, count, aligned);
    store_pack(dx, first, count, aligned,
               pack_of<T>([&](int i) { return leaky_squared_backward(d.elements[i], a.elements[i], slope_squared); }));
  });
}

template <class T>
__global__ void swiglu_kernel(const T* gate, const T* up, T* y, int64_t count, bool aligned) {
  for_packs<T>(count, [&](int64_t first) {
    const Pack<T> g = load_pack(gate, first, count, aligned), u = load_pack(up, first, count, aligned);
    store_pack(y, first, count, aligned, pack_of<T>([&](int i) { return swiglu(g.elements[i], u.elements[i]); }));
  });
}

template <class T>
__global__ void swiglu_backward_kernel(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t count, bool aligned) {
  for_packs<T>(count, [&](int64_t first) {
    const Pack<T> d = load_pack(dy, first, count, aligned), g = load_pack(gate, first, count, aligned),
                  u = load_pack(up, first, count, aligned);
    store_pack(dgate, first, count, aligned,
               pack_of<T>([&](int i) { return swiglu_backward(d.elements[i], g.elements[i], u.elements[i]).gate; }));
    store_pack(dup, first, count, aligned,
               pack_of<T>([&](int i) { return swiglu_backward(d.elements[i], g.elements[i], u.elements[i]).up; }));
  });
}

template <class T>
__global__ void scale_kernel(T* x, const float* factor, int64_t count, bool aligned) {
  const float by = *factor;
  if (by == 1.0f) return;
  for_packs<T>(count,
               [&](int64_t first) { store_pack(x, first, count, aligned, scaled(load_pack(x, first, count, aligned), by)); });
}

template <class T>
unsigned blocks_for(int64_t count) {
  constexpr int64_t max_blocks = 16384;  // beyond, threads loop
  const int64_t blocks = ceil_div<int64_t>(count, kPack<T> * kThreads);
  return static_cast<unsigned>(blocks < max_blocks ? blocks : max_blocks);
}

}  // namespace

template <class T>
void MlpKernels<T>::leaky_squared(const T* x, float slope_squared, T* y, int64_t count) const {
  launch(leaky_squared_kernel<T>, blocks_for<T>(count), kThreads, stream, x, slope_squared, y, count, on_boundaries(x, y));
}

template <class T>
void MlpKernels<T>::leaky_squared_backward(const T* dy, const T* x, float slope_squared, T* dx, int64_t count) const {
  launch(leaky_squared_backward_kernel<T>, blocks_for<T>(count), kThreads, stream, dy, x, slope_squared, dx, count,
         on_boundaries(dy, x, dx));
}

template <class T>
void MlpKernels<T>::swiglu(const T* gate, const T* up, T* y, int64_t count) const {
  launch(swiglu_kernel<T>, blocks_for<T>(count), kThreads, stream, gate, up, y, count, on_boundaries(gate, up, y));
}

template <class T>
void MlpKernels<T>::swiglu_backward(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t count) const {
  launch(swiglu_backward_kernel<T>, blocks_for<T>(count), kThreads, stream, dy, gate, up, dgate, dup, count,
         on_boundaries(dy, gate, up, dgate, dup));
}

template <class T>
void MlpKernels<T>::scale(T* x, const float* factor, int64_t count) const {
  launch(scale_kernel<T>, blocks_for<T>(count), kThreads, stream, x, factor, count, on_boundaries(x));
}

template struct MlpKernels<float>;
template struct MlpKernels<Bf16>;

}  // namespace pgolf::ops::cuda
