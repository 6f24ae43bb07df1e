// What the machine can do at most, measured: the yardsticks of the benchmarks.
#pragma once

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "../src/ops/kernels/amx/gemm.h"
#include "../src/ops/kernels/select.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// Seconds of one call, the best of several rounds of at least 50 ms after one that does not count.
inline double best_seconds(const at::Device& device, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  for (int round = 0; round < 6; ++round) {
    double seconds = 0;
    int calls = 0;
    const auto start = Clock::now();
    do {
      work();
      synchronize(device);
      ++calls;
      seconds = std::chrono::duration<double>(Clock::now() - start).count();
    } while (seconds < 0.05);
    if (round == 1 || (round > 1 && seconds / calls < best)) best = seconds / calls;
  }
  return best;
}

/// FLOP/s of a matrix product, all threads: a large square one by LibTorch or, where that is faster, the project's own
/// kernel on operands that stay in each core's cache.
inline double matrix_peak(const at::Device& device, at::ScalarType dtype) {
  const int64_t size = device.is_cuda() ? 8192 : 2048;
  const auto a = torch::randn({size, size}, at::TensorOptions().device(device).dtype(dtype)), b = torch::randn_like(a);
  auto c = torch::empty_like(a);
  double peak = 2.0 * static_cast<double>(size * size * size) / best_seconds(device, [&] { at::mm_out(c, a, b); });
  if (device.is_cpu() && dtype == at::kBFloat16 && ops::amx_usable()) {
    constexpr int64_t side = 384, repeats = 64;
    const int64_t threads = at::get_num_threads();
    const auto left = torch::randn({threads, side, side}, at::kBFloat16), product = torch::empty_like(left);
    const auto right = torch::randn({threads, ops::amx::packed_size(side, side)}, at::kBFloat16);
    const double seconds = best_seconds(device, [&] {
      at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          const auto data = [i](const at::Tensor& x) { return static_cast<ops::Bf16*>(x[i].mutable_data_ptr()); };
          const ops::amx::Term term{data(left), data(right), side};
          const ops::amx::Output output{ops::amx::Store::assign, ops::amx::Element::bfloat16, data(product), side};
          for (int64_t n = 0; n < repeats; ++n) ops::amx::multiply(&term, 1, side, side, output);
        }
      });
    });
    peak = std::max(peak, 2.0 * static_cast<double>(threads * repeats * side * side * side) / seconds);
  }
  return peak;
}

/// Bytes per second, read and written, of a copy far larger than the caches.
inline double copy_bandwidth(const at::Device& device) {
  const auto from = torch::ones({int64_t{1} << 26}, at::TensorOptions().device(device).dtype(at::kFloat));
  auto to = torch::zeros_like(from);
  return 2.0 * static_cast<double>(from.nbytes()) / best_seconds(device, [&] { to.copy_(from); });
}

}  // namespace pgolf
