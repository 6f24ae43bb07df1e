// Parallel loops over the CPU's threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace pgolf::ops {

/// `count` elements of the calling thread's scratch memory, 64-byte aligned, valid until its next call. Never shrinks.
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

/// Calls f(first, last) for chunks of at most `chunk` units until 0 .. units-1 are done. Each thread starts with its own range,
/// always the same one, because its cache still holds those rows; then it takes chunks of the other threads' ranges: cores differ
/// in speed when other programs, or other machines on the same processor, are running. f must not depend on which thread does
/// which chunk.
template <class F>
void parallel_for_chunks(int64_t units, int64_t chunk, const F& f) {
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), (units + chunk - 1) / chunk);
  if (threads <= 1 || at::in_parallel_region()) {
    for (int64_t first = 0; first < units; first += chunk) f(first, std::min(first + chunk, units));
    return;
  }
  struct alignas(64) Range {
    std::atomic<int64_t> next;
    int64_t end;
  };
  std::vector<Range> ranges(static_cast<size_t>(threads));
  for (int64_t i = 0; i < threads; ++i) {
    auto& range = ranges[static_cast<size_t>(i)];
    range.next = units * i / threads;
    range.end = units * (i + 1) / threads;
  }
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      for (int64_t i = 0; i < threads; ++i) {
        auto& range = ranges[static_cast<size_t>((thread + i) % threads)];
        for (int64_t first = range.next.fetch_add(chunk); first < range.end; first = range.next.fetch_add(chunk)) {
          f(first, std::min(first + chunk, range.end));
        }
      }
    }
  });
}

}  // namespace pgolf::ops
