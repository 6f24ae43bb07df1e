// Work shared out among the threads of the CPU.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

namespace pgolf::ops {

/// f(first, last) until all of 0 .. units-1 have had their turn, in parts of at most `part`. A thread takes the next part
/// when it is free: cores differ in speed where other programs run, or other machines on the same processor, and then equal
/// shares would leave all of them waiting for the slowest. f must not care which thread does which part.
template <class F>
void share_out(int64_t units, int64_t part, const F& f) {
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), (units + part - 1) / part);
  std::atomic<int64_t> next{0};
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t first = next.fetch_add(part); first < units; first = next.fetch_add(part)) {
      f(first, std::min(first + part, units));
    }
  });
}

}  // namespace pgolf::ops
