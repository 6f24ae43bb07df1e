// CUDA threads as fibers of one host thread. Blocks run one after another, in a shuffled order; a block's threads each run until
// they end or wait, in a shuffled order, too, and warps run as far ahead of one another as barriers allow. What would hang or
// be undefined on a device throws.
//
// What it cannot see: a read of shared memory that this block has not written (it finds what the last block left there), and
// races between blocks except through their order.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>

#ifdef __SANITIZE_ADDRESS__  // GCC's
#define PGOLF_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PGOLF_ADDRESS_SANITIZER 1
#endif
#endif

namespace pgolf::cuda_emulation {

constexpr unsigned kWarpLanes = 32;

struct Dim3 {
  unsigned x, y, z;
  constexpr Dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

/// Of the thread that runs.
struct Here {
  Dim3 thread, block, block_dim, grid_dim;
};
extern Here here;

/// Of the order of blocks, warps and threads.
extern unsigned seed;

struct Counts {
  int64_t launches = 0, threads = 0, barriers = 0, shuffles = 0;
};
extern Counts counts;

/// A launch that a device would refuse, or a kernel that would hang or be undefined there.
struct Error : std::logic_error {
  using std::logic_error::logic_error;
};

/// Runs thread() for every thread of grid x block; a block may have at most max_threads.
void run(Dim3 grid, Dim3 block, int max_threads, const std::function<void()>& thread);

// By the threads of a kernel:

/// In the source.
struct Place {
  const char* file = "";
  int line = 0;
};

void barrier(Place place);

/// The bits of lane `source` of the same warp. All lanes of the mask must take part at the same place.
uint64_t exchange(unsigned mask, uint64_t bits, unsigned source, Place place);
unsigned own_lane();

template <class T>
T shuffle_xor(unsigned mask, T value, int lane_mask, Place place) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, own_lane() ^ static_cast<unsigned>(lane_mask), place);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace pgolf::cuda_emulation
