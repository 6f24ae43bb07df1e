// Where heads lie in memory, and how many threads hold one of them.
#pragma once

#include "team.cuh"

namespace pgolf::ops::cuda {

/// row = batch entry * time + t.
template <class Pointer>
__device__ Pointer head_of(const Heads<Pointer>& x, int64_t time, int64_t row, int64_t head) {
  return x.data + row / time * x.batch_stride + row % time * x.time_stride + head * x.head_stride;
}

/// Whether all heads lie on 16-byte boundaries.
template <class T, class Pointer>
bool heads_on_boundaries(const Heads<Pointer>& x) {
  return on_boundaries(x.data) && x.batch_stride % kPack<T> == 0 && x.time_stride % kPack<T> == 0 &&
         x.head_stride % kPack<T> == 0;
}

/// Threads for a head of `dim` elements, one pack each: a power of two up to 32.
template <class T>
int lanes_of(int64_t dim) {
  int lanes = 1;
  while (lanes * kPack<T> < dim) lanes *= 2;
  return lanes;
}

}  // namespace pgolf::ops::cuda
