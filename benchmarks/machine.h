// Measured peak rates of the machine, to which the benchmarks relate their results.
#pragma once

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "../src/ops/gemm_cpu.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// Seconds of one call, the best of several rounds of at least 50 ms after one warmup round.
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

/// FLOP/s of the project's own kernels, all threads, on operands that stay in each core's cache.
template <class Gemm>
double cached_product_rate(at::ScalarType dtype) {
  constexpr int64_t side = 384, repeats = 64;
  const int64_t threads = at::get_num_threads();
  const auto packed = torch::randn(
      {2, threads, std::max(Gemm::left_size(side, side, dtype), Gemm::right_size(side, side, dtype))}, Gemm::kPackedType);
  const auto product = torch::empty({threads, side, side}, dtype);
  const double seconds = best_seconds(at::kCPU, [&] {
    at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const auto data = [i](const at::Tensor& x) { return static_cast<typename Gemm::Packed*>(x[i].mutable_data_ptr()); };
        typename Gemm::Term terms[Gemm::kTerms];
        const auto* const end = Gemm::add_terms(terms, data(packed[0]), side, data(packed[1]), side, side, dtype);
        const auto type = dtype == at::kFloat ? ops::Element::float32 : ops::Element::bfloat16;
        const ops::Output output{ops::Store::assign, type, product[i].mutable_data_ptr(), side};
        for (int64_t n = 0; n < repeats; ++n) Gemm::multiply(terms, end - terms, side, side, output);
      }
    });
  });
  return 2.0 * static_cast<double>(threads * repeats * side * side * side) / seconds;
}

/// FLOP/s of a matrix product, all threads: a large square one by LibTorch or, where that is faster, the project's own.
inline double matrix_peak(const at::Device& device, at::ScalarType dtype) {
  const int64_t size = device.is_cuda() ? 8192 : 2048;
  const auto a = torch::randn({size, size}, at::TensorOptions().device(device).dtype(dtype)), b = torch::randn_like(a);
  auto c = torch::empty_like(a);
  double peak = 0;
  // Without instructions for bfloat16 LibTorch emulates its products, which takes minutes.
  if (device.is_cuda() || dtype == at::kFloat || cpu_level() >= CpuLevel::avx512bf16) {
    peak = 2.0 * static_cast<double>(size * size * size) / best_seconds(device, [&] { at::mm_out(c, a, b); });
  }
  if (device.is_cpu() && ops::cpu::has_gemm(dtype)) {
    ops::cpu::with_gemm([&](auto gemm) { peak = std::max(peak, cached_product_rate<decltype(gemm)>(dtype)); });
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
