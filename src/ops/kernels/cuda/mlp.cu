// relu_squared, swiglu and scale: one pack per thread and turn, as one row of `count` elements.
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
__global__ void relu_squared_kernel(const T* x, T* y, int64_t count, bool aligned) {
  for_packs<T>(count, [&](int64_t first) {
    const Pack<T> a = load_pack(x, first, count, aligned);
    store_pack(y, first, count, aligned, pack_of<T>([&](int i) { return relu_squared(a.lanes[i]); }));
  });
}

template <class T>
__global__ void relu_squared_backward_kernel(const T* dy, const T* x, T* dx, int64_t count, bool aligned) {
  for_packs<T>(count, [&](int64_t first) {
    const Pack<T> d = load_pack(dy, first, count, aligned), a = load_pack(x, first, count, aligned);
    store_pack(dx, first, count, aligned, pack_of<T>([&](int i) { return relu_squared_backward(d.lanes[i], a.lanes[i]); }));
  });
}

template <class T>
__global__ void swiglu_kernel(const T* gate, const T* up, T* y, int64_t count, bool aligned) {
  for_packs<T>(count, [&](int64_t first) {
    const Pack<T> g = load_pack(gate, first, count, aligned), u = load_pack(up, first, count, aligned);
    store_pack(y, first, count, aligned, pack_of<T>([&](int i) { return swiglu(g.lanes[i], u.lanes[i]); }));
  });
}

template <class T>
__global__ void swiglu_backward_kernel(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t count, bool aligned) {
  for_packs<T>(count, [&](int64_t first) {
    const Pack<T> d = load_pack(dy, first, count, aligned), g = load_pack(gate, first, count, aligned),
                  u = load_pack(up, first, count, aligned);
    store_pack(dgate, first, count, aligned,
               pack_of<T>([&](int i) { return swiglu_backward(d.lanes[i], g.lanes[i], u.lanes[i]).gate; }));
    store_pack(dup, first, count, aligned,
               pack_of<T>([&](int i) { return swiglu_backward(d.lanes[i], g.lanes[i], u.lanes[i]).up; }));
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
  constexpr int64_t most = 16384;  // beyond, threads take several turns
  const int64_t blocks = quotient_up<int64_t>(count, kPack<T> * kThreads);
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

}  // namespace

template <class T>
void MlpKernels<T>::relu_squared(const T* x, T* y, int64_t count) const {
  launch(relu_squared_kernel<T>, blocks_for<T>(count), kThreads, stream, x, y, count, on_boundaries(x, y));
}

template <class T>
void MlpKernels<T>::relu_squared_backward(const T* dy, const T* x, T* dx, int64_t count) const {
  launch(relu_squared_backward_kernel<T>, blocks_for<T>(count), kThreads, stream, dy, x, dx, count, on_boundaries(dy, x, dx));
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
