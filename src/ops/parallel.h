// Work shared out among the threads of the CPU.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace pgolf::ops {

/// `count` elements of memory of the calling thread, on a 64-byte boundary, until its next call. It keeps the largest.
template <class T>
T* thread_scratch(int64_t count) {
  thread_local std::unique_ptr<void, decltype(&std::free)> memory(nullptr, &std::free);
  thread_local size_t size = 0;
  const size_t wanted = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
  if (wanted > size) {
    memory.reset(std::aligned_alloc(64, wanted));
    if (memory == nullptr) throw std::bad_alloc();
    size = wanted;
  }
  return static_cast<T*>(memory.get());
}

/// f(first, last) until all of 0 .. units-1 have had their turn, in parts of at most `part`. A thread starts with its own
/// stretch, always the same one, because its cache still holds those rows; when that is done it takes parts of the others':
/// cores differ in speed where other programs run, or other machines on the same processor, and nobody shall wait for the
/// slowest. f must not care which thread does which part.
template <class F>
void share_out(int64_t units, int64_t part, const F& f) {
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), (units + part - 1) / part);
  if (threads <= 1 || at::in_parallel_region()) {
    for (int64_t first = 0; first < units; first += part) f(first, std::min(first + part, units));
    return;
  }
  struct alignas(64) Stretch {
    std::atomic<int64_t> next;
    int64_t end;
  };
  std::vector<Stretch> stretches(static_cast<size_t>(threads));
  for (int64_t i = 0; i < threads; ++i) {
    auto& stretch = stretches[static_cast<size_t>(i)];
    stretch.next = units * i / threads;
    stretch.end = units * (i + 1) / threads;
  }
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      for (int64_t i = 0; i < threads; ++i) {
        auto& stretch = stretches[static_cast<size_t>((thread + i) % threads)];
        for (int64_t first = stretch.next.fetch_add(part); first < stretch.end; first = stretch.next.fetch_add(part)) {
          f(first, std::min(first + part, stretch.end));
        }
      }
    }
  });
}

}  // namespace pgolf::ops
