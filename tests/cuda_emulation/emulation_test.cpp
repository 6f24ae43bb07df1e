// The emulation runs kernels as a device does, and detects what would hang or be undefined there.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ops/kernels/cuda/team.cuh"

namespace pgolf::ops::cuda {
namespace {

constexpr cudaStream_t kStream = nullptr;

void write_place(int* to) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned place = block * blockDim.x * blockDim.y * blockDim.z + thread;
  to[place] += static_cast<int>(place);
}

TEST(Emulation, RunsEveryThreadOnce) {
  std::vector<int> places(2 * 3 * 2 * 40 * 2 * 2);
  launch(write_place, dim3(2, 3, 2), dim3(40, 2, 2), kStream, places.data());
  for (size_t i = 0; i < places.size(); ++i) ASSERT_EQ(places[i], i);
}

/// Reads what a thread of another warp wrote to shared memory.
void from_other_warp(const int* from, int* to, bool wait) {
  __shared__ int numbers[64];
  numbers[threadIdx.x] = from[threadIdx.x];
  if (wait) __syncthreads();
  to[threadIdx.x] = numbers[(threadIdx.x + 32) % 64];
}

TEST(Emulation, DetectsAMissingBarrier) {
  int wrong = 0;
  for (unsigned seed = 1; seed < 9; ++seed) {
    cuda_emulation::seed = seed;
    std::vector<int> from(64), with(64), without(64), expected(64);
    for (int i = 0; i < 64; ++i) from[i] = 1000 * static_cast<int>(seed) + i;
    for (int i = 0; i < 64; ++i) expected[i] = from[(i + 32) % 64];
    launch(from_other_warp, 1, 64, kStream, from.data(), without.data(), false);
    launch(from_other_warp, 1, 64, kStream, from.data(), with.data(), true);
    EXPECT_EQ(with, expected);
    wrong += without != expected ? 1 : 0;
  }
  EXPECT_EQ(wrong, 8);
}

void sum_over_team(const float* x, float* sums) {
  Team team;
  const unsigned i = threadIdx.x + blockDim.x * threadIdx.y;
  for (int n = 0; n < 3; ++n) sums[i] = team.sum(x[i] + static_cast<float>(n));
}

TEST(Emulation, SumsOverTeams) {
  std::vector<float> x(4 * 96, 1.0f), sums(x.size());
  x[5] = 2;
  launch(sum_over_team, 1, dim3(96, 4), kStream, x.data(), sums.data());
  for (size_t i = 0; i < sums.size(); ++i) EXPECT_EQ(sums[i], i < 96 ? 96 * 3 + 1 : 96 * 3) << i;
}

enum class Wrong { nothing, lane_missing, lane_ended, own_mask, foreign_lane, no_such_lane, two_shuffles, two_barriers };

void do_wrong(Wrong wrong) {
  const unsigned lane = threadIdx.x;
  switch (wrong) {
    case Wrong::nothing:
      if (lane < 16) __shfl_xor_sync(0xffffu, lane, 8);
      if (lane == 16) return;
      __syncthreads();
      break;
    case Wrong::lane_missing:
      if (lane != 3) __shfl_xor_sync(0xffffffffu, lane, 1);
      __syncthreads();
      break;
    case Wrong::lane_ended:
      if (lane != 3) __shfl_xor_sync(0xffffffffu, lane, 1);
      break;
    case Wrong::own_mask:
      __shfl_xor_sync(0xffffu, lane, 1);
      break;
    case Wrong::foreign_lane:
      if (lane < 16) __shfl_xor_sync(0xffffu, lane, 16);
      break;
    case Wrong::no_such_lane:
      __shfl_xor_sync(0xffffffffu, lane, 1);
      break;
    case Wrong::two_shuffles:
      if (lane % 2 == 0) {
        __shfl_xor_sync(0xffffffffu, lane, 1);
      } else {
        __shfl_xor_sync(0xffffffffu, lane, 1);
      }
      break;
    case Wrong::two_barriers:
      if (lane < 32) {
        __syncthreads();
      } else {
        __syncthreads();
      }
      break;
  }
}

/// The error of a launch, empty if none.
std::string error_of(Wrong wrong, dim3 grid = 1, dim3 block = 64) {
  try {
    launch<512>(do_wrong, grid, block, kStream, wrong);
  } catch (const cuda_emulation::Error& error) {
    return error.what();
  }
  return "";
}

void expect_in(const std::string& part, const std::string& text) {
  EXPECT_NE(text.find(part), text.npos) << "\"" << part << "\" is not in \"" << text << "\"";
}

TEST(Emulation, RefusesWhatWouldHangOrBeUndefined) {
  EXPECT_EQ(error_of(Wrong::nothing), "");
  expect_in("wait for one another", error_of(Wrong::lane_missing));
  expect_in("a lane that has ended", error_of(Wrong::lane_ended));
  expect_in("a lane shuffles that is not in its mask", error_of(Wrong::own_mask));
  expect_in("a lane reads from a lane that is not in its mask", error_of(Wrong::foreign_lane));
  expect_in("lanes that the block does not have", error_of(Wrong::no_such_lane, 1, 48));
  expect_in("different shuffles", error_of(Wrong::two_shuffles));
  expect_in("different barriers", error_of(Wrong::two_barriers));
  EXPECT_EQ(error_of(Wrong::nothing), "") << "after all those errors";
}

TEST(Emulation, RefusesLaunchesThatADeviceWouldRefuse) {
  expect_in("empty", error_of(Wrong::nothing, 0));
  expect_in("empty", error_of(Wrong::nothing, 1, dim3(32, 0)));
  expect_in("grid beyond", error_of(Wrong::nothing, dim3(1, 65536)));
  expect_in("block beyond", error_of(Wrong::nothing, 1, 1056));
  expect_in("block beyond", error_of(Wrong::nothing, 1, dim3(1, 1, 65)));
  expect_in("__launch_bounds__", error_of(Wrong::nothing, 1, 544));
}

}  // namespace
}  // namespace pgolf::ops::cuda
