// Stands in for the CUDA runtime's header of this name: what src/ops/kernels/cuda uses of CUDA, on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulation.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

using dim3 = pgolf::cuda_emulation::Dim3;
using cudaStream_t = struct CUstream_st*;

#define threadIdx (pgolf::cuda_emulation::here.thread)
#define blockIdx (pgolf::cuda_emulation::here.block)
#define blockDim (pgolf::cuda_emulation::here.block_dim)
#define gridDim (pgolf::cuda_emulation::here.grid_dim)

#define __syncthreads() pgolf::cuda_emulation::barrier({__FILE__, __LINE__})
#define __shfl_xor_sync(mask, value, lane_mask) pgolf::cuda_emulation::shuffle_xor(mask, value, lane_mask, {__FILE__, __LINE__})
