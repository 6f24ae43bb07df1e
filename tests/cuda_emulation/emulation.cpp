#include "emulation.h"

#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#ifdef PGOLF_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

namespace pgolf::cuda_emulation {

Here here;
unsigned seed = 1;
Counts counts;

namespace {

constexpr size_t kStackBytes = 96 * 1024;

enum class State { ready, at_barrier, at_shuffle, done };

struct Fiber {
  ucontext_t context{};
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  void* fake_stack = nullptr;  // AddressSanitizer's
  Dim3 thread;
  State state = State::done;
  Place place;  // of the barrier or shuffle
  unsigned mask = 0, source = 0;
  uint64_t given = 0, taken = 0;
};

std::vector<std::unique_ptr<Fiber>> fibers;  // thread i of every block is fiber i
size_t current = 0;
const std::function<void()>* work = nullptr;
std::string failure;  // found by a fiber, thrown by the scheduler

struct {
  ucontext_t context;
  void* fake_stack;
  const void* stack;
  size_t stack_bytes;
} scheduler;

[[noreturn]] void fail(const std::string& what) {
  fibers.clear();  // they would resume in the middle of this kernel
  throw Error(what);
}

std::string text_of(const Place& place) {
  return std::string(place.file) + ":" + std::to_string(place.line);
}

bool same(const Place& a, const Place& b) {
  return a.line == b.line && std::strcmp(a.file, b.file) == 0;
}

void to_scheduler() {
  Fiber& self = *fibers[current];
#ifdef PGOLF_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&self.fake_stack, scheduler.stack, scheduler.stack_bytes);
#endif
  swapcontext(&self.context, &scheduler.context);
#ifdef PGOLF_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(self.fake_stack, &scheduler.stack, &scheduler.stack_bytes);
#endif
}

/// A fiber's life: one thread after another.
void live() {
#ifdef PGOLF_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack, &scheduler.stack_bytes);
#endif
  while (true) {
    (*work)();
    fibers[current]->state = State::done;
    to_scheduler();
  }
}

void resume(size_t index) {
  Fiber& fiber = *fibers[index];
  current = index;
  here.thread = fiber.thread;
#ifdef PGOLF_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&scheduler.fake_stack, fiber.stack.get(), kStackBytes);
#endif
  swapcontext(&scheduler.context, &fiber.context);
#ifdef PGOLF_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(scheduler.fake_stack, nullptr, nullptr);
#endif
  if (!failure.empty()) fail(std::exchange(failure, ""));
}

void add_fiber() {
  Fiber& fiber = *fibers.emplace_back(std::make_unique<Fiber>());
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, live, 0);
  fiber.context.uc_stack.ss_size = 0;  // else AddressSanitizer forgets at every switch what it knows of this stack
}

class Block {
 public:
  Block(Dim3 dim, std::mt19937& random) : count_(size_t{dim.x} * dim.y * dim.z), random_(random) {
    while (fibers.size() < count_) add_fiber();
    for (size_t i = 0; i < count_; ++i) {
      const auto index = static_cast<unsigned>(i);
      fibers[i]->thread = Dim3(index % dim.x, index / dim.x % dim.y, index / dim.x / dim.y);
      fibers[i]->state = State::ready;
    }
    counts.threads += static_cast<int64_t>(count_);
  }

  void run() {
    std::vector<size_t> warps((count_ + kWarpLanes - 1) / kWarpLanes);
    std::iota(warps.begin(), warps.end(), 0);
    while (!all(State::done)) {
      std::shuffle(warps.begin(), warps.end(), random_);
      bool progress = false;
      for (const size_t warp : warps) {
        while (run_lanes(warp) || shuffle(warp)) progress = true;
      }
      if (!open_barrier() && !progress) fail("threads wait for one another" + waiting());
    }
  }

 private:
  static constexpr unsigned bit(size_t lane) { return 1u << lane; }

  bool all(State state) const {
    return std::all_of(fibers.begin(), fibers.begin() + static_cast<std::ptrdiff_t>(count_),
                       [&](const auto& fiber) { return fiber->state == state; });
  }

  /// Runs the lanes that are ready; false if there are none.
  bool run_lanes(size_t warp) {
    std::shuffle(lanes_.begin(), lanes_.end(), random_);
    bool progress = false;
    for (const size_t lane : lanes_) {
      const size_t i = warp * kWarpLanes + lane;
      if (i >= count_ || fibers[i]->state != State::ready) continue;
      resume(i);
      progress = true;
    }
    return progress;
  }

  /// Performs the shuffles at which all lanes of their mask wait; false if there are none.
  bool shuffle(size_t warp) {
    bool progress = false;
    const size_t first = warp * kWarpLanes, present = std::min<size_t>(kWarpLanes, count_ - first);
    for (size_t i = first; i < first + present; ++i) {
      const Fiber& requester = *fibers[i];
      if (requester.state != State::at_shuffle) continue;
      bool complete = true;
      for (size_t lane = 0; lane < kWarpLanes; ++lane) {
        if ((requester.mask & bit(lane)) == 0) continue;
        if (lane >= present) fail("a shuffle's mask names lanes that the block does not have: " + text_of(requester.place));
        const Fiber& other = *fibers[first + lane];
        if (other.state == State::done) fail("a shuffle waits for a lane that has ended: " + text_of(requester.place));
        if (other.state != State::at_shuffle) {
          complete = false;
        } else if (other.mask != requester.mask || !same(other.place, requester.place)) {
          fail("lanes of a mask are at different shuffles: " + text_of(requester.place) + " and " + text_of(other.place));
        }
      }
      if (!complete) continue;
      for (size_t lane = 0; lane < present; ++lane) {
        Fiber& taking = *fibers[first + lane];
        if ((requester.mask & bit(lane)) == 0) continue;
        taking.taken = fibers[first + taking.source]->given;
        taking.state = State::ready;
      }
      ++counts.shuffles;
      progress = true;
    }
    return progress;
  }

  /// Opens the barrier if every thread that has not ended waits at it.
  bool open_barrier() {
    const Fiber* one = nullptr;
    for (size_t i = 0; i < count_; ++i) {
      const Fiber& fiber = *fibers[i];
      if (fiber.state == State::done) continue;
      if (fiber.state != State::at_barrier) return false;
      if (one == nullptr) one = &fiber;
      if (!same(one->place, fiber.place))
        fail("threads are at different barriers: " + text_of(one->place) + " and " + text_of(fiber.place));
    }
    if (one == nullptr) return false;
    for (size_t i = 0; i < count_; ++i) {
      if (fibers[i]->state == State::at_barrier) fibers[i]->state = State::ready;
    }
    ++counts.barriers;
    return true;
  }

  std::string waiting() const {
    std::string text;
    for (size_t i = 0; i < count_ && text.size() < 400; ++i) {
      if (fibers[i]->state == State::done) continue;
      text += "\n  thread " + std::to_string(i) + (fibers[i]->state == State::at_barrier ? " at barrier " : " at shuffle ") +
              text_of(fibers[i]->place);
    }
    return text;
  }

  size_t count_;
  std::mt19937& random_;
  std::vector<size_t> lanes_ = [] {
    std::vector<size_t> lanes(kWarpLanes);
    std::iota(lanes.begin(), lanes.end(), 0);
    return lanes;
  }();
};

void wait(State state, const Place& place) {
  fibers[current]->state = state;
  fibers[current]->place = place;
  to_scheduler();
}

}  // namespace

void barrier(Place place) {
  wait(State::at_barrier, place);
}

unsigned own_lane() {
  return static_cast<unsigned>(current % kWarpLanes);
}

uint64_t exchange(unsigned mask, uint64_t bits, unsigned source, Place place) {
  const auto in_mask = [&](unsigned lane) { return lane < kWarpLanes && (mask >> lane & 1u) != 0; };
  if (!in_mask(own_lane())) {
    failure = "a lane shuffles that is not in its mask: " + text_of(place);
  } else if (!in_mask(source)) {
    failure = "a lane reads from a lane that is not in its mask: " + text_of(place);
  }
  Fiber& self = *fibers[current];
  self.mask = mask;
  self.given = bits;
  self.source = source;
  wait(State::at_shuffle, place);
  return self.taken;
}

void run(Dim3 grid, Dim3 block, int max_threads, const std::function<void()>& thread) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (size_t{grid.x} * grid.y * grid.z == 0 || threads == 0) throw Error("an empty grid or block");
  if (grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) throw Error("a grid beyond the limits of devices");
  if (threads > 1024 || block.z > 64) throw Error("a block beyond the limits of devices");
  if (threads > static_cast<size_t>(max_threads))
    throw Error("a block of " + std::to_string(threads) + " threads exceeds its __launch_bounds__ of " +
                std::to_string(max_threads));
  std::mt19937 random(seed);
  std::vector<unsigned> blocks(size_t{grid.x} * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), 0u);
  std::shuffle(blocks.begin(), blocks.end(), random);
  work = &thread;
  here.grid_dim = grid;
  here.block_dim = block;
  for (const unsigned i : blocks) {
    here.block = Dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y);
    Block(block, random).run();
  }
  ++counts.launches;
}

}  // namespace pgolf::cuda_emulation
