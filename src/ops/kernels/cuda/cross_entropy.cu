// softcap_cross_entropy: one block per row, the row in registers between loss and gradient.
#include "kernels.h"
#include "team.cuh"

namespace pgolf::ops::cuda {
namespace {

/// The softmax is that of cap * value.
struct Capped {
  float cap;  ///< 0: none
  __device__ Tanh operator()(float logit) const { return cap > 0 ? tanh_of(logit / cap) : Tanh{logit, 1}; }
  __device__ float factor() const { return cap > 0 ? cap : 1; }
  __device__ float smallest() const { return cap > 0 ? -1 : -INFINITY; }
};

/// Each thread holds kPacks packs of its row; pack p of thread t begins at element (p * threads + t) * kPack. Loops over packs
/// are not unrolled, so that several packs are in local memory instead of in more registers than a large block may have.
template <class T, int kPacks>
__global__ void __launch_bounds__(kMaxThreads)
    softcap_cross_entropy_kernel(const T* logits, const int64_t* targets, Capped capped, float grad_scale, float* loss,
                                 T* gradient, int64_t vocab, bool aligned) {
  const int64_t row = blockIdx.x;
  logits += row * vocab;
  const auto first_of = [](int p) { return static_cast<int64_t>(p * blockDim.x + threadIdx.x) * kPack<T>; };
  Team team;

  Pack<T> zs[kPacks], slopes[kPacks];
  float largest = capped.smallest();
#pragma unroll 1
  for (int p = 0; p < kPacks; ++p) {
    const Pack<T> x = load_pack(logits, first_of(p), vocab, aligned);
    for (int i = 0; i < kPack<T>; ++i) {
      const Tanh t = capped(x.elements[i]);
      zs[p].elements[i] = t.value;
      slopes[p].elements[i] = t.derivative;
      if (first_of(p) + i < vocab) largest = t.value > largest ? t.value : largest;
    }
  }
  largest = team.max(largest);

  float sum = 0;
#pragma unroll 1
  for (int p = 0; p < kPacks; ++p) {
    for (int i = 0; i < kPack<T>; ++i) {
      const float e = expf(capped.factor() * (zs[p].elements[i] - largest));
      zs[p].elements[i] = e;
      sum += first_of(p) + i < vocab ? e : 0.0f;
    }
  }
  sum = team.sum(sum);

  const int64_t target = targets[row];
  const bool valid = target >= 0 && target < vocab;
  if (threadIdx.x == 0) {
    const float of_target = valid ? capped(to_float(logits[target])).value : NAN;
    loss[row] = logf(sum) + capped.factor() * (largest - of_target);
  }
  if (gradient == nullptr) return;
  gradient += row * vocab;
  const float per_sum = grad_scale / sum;
#pragma unroll 1
  for (int p = 0; p < kPacks; ++p) {
    const Pack<T> d = pack_of<T>([&](int i) {
      const float e = zs[p].elements[i] - (first_of(p) + i == target ? sum : 0.0f);
      return e * per_sum * slopes[p].elements[i];
    });
    store_pack(gradient, first_of(p), vocab, aligned, d);
  }
}

}  // namespace

template <class T>
void CrossEntropyKernels<T>::softcap_cross_entropy(const T* logits, const int64_t* targets, float cap, float grad_scale,
                                                   float* loss, T* gradient, int64_t rows, int64_t vocab) const {
  const int64_t packs = ceil_div<int64_t>(vocab, kPack<T>);
  const bool one_each = packs <= kMaxThreads;
  const int64_t threads = ceil_div<int64_t>(one_each ? packs : ceil_div<int64_t>(packs, 8), kWarp) * kWarp;
  const bool aligned = vocab % kPack<T> == 0 && on_boundaries(logits, gradient);
  const auto kernel = one_each ? softcap_cross_entropy_kernel<T, 1> : softcap_cross_entropy_kernel<T, 8>;
  launch<kMaxThreads>(kernel, static_cast<unsigned>(rows), static_cast<unsigned>(threads), stream, logits, targets, Capped{cap},
                      grad_scale, loss, gradient, vocab, aligned);
}

template struct CrossEntropyKernels<float>;
template struct CrossEntropyKernels<Bf16>;

}  // namespace pgolf::ops::cuda
