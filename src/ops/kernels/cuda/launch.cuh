// How launchers start their kernels: on the device, or, compiled for the host, in the emulation of tests/cuda_emulation.
#pragma once

#include <cuda_runtime_api.h>

#include <type_traits>

namespace pgolf::ops::cuda {

constexpr int kMaxThreads = 1024;  // of a block

/// kernel(arguments...) by every thread of grid x block. kLaunchBound: the kernel's __launch_bounds__, which the emulation cannot
/// see otherwise.
template <int kLaunchBound = kMaxThreads, class... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream,
            std::type_identity_t<Parameters>... arguments) {
  static_assert(kLaunchBound <= kMaxThreads);
#ifdef __CUDACC__
  kernel<<<grid, block, 0, stream>>>(arguments...);
#else
  static_cast<void>(stream);
  cuda_emulation::run(grid, block, kLaunchBound, [&] { kernel(arguments...); });
#endif
}

}  // namespace pgolf::ops::cuda
