// The process group for CUDA devices.
#ifdef PGOLF_WITH_NCCL
#define USE_C10D_NCCL 1
#include <c10/cuda/CUDAGraphsC10Utils.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <cstdlib>

#include "backends.h"
#include "pgolf/base/error.h"

namespace pgolf {

BackendPtr make_nccl(const BackendPlace& place, const std::string& address) {
#ifdef PGOLF_WITH_NCCL
  // Its watchdog and its monitor would end the process before Liveness can say who was lost, and where nobody was.
  for (const char* name : {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_NCCL_ENABLE_MONITORING",
                           "TORCH_NCCL_RETHROW_CUDA_ERRORS"})
    ::setenv(name, "0", /*overwrite=*/0);
  // By itself it listens on the first interface that is not the loopback.
  if (address.starts_with("127.")) ::setenv("NCCL_SOCKET_IFNAME", "lo", /*overwrite=*/0);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::hours(24);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(place.store, place.rank, place.world_size, std::move(options));
#else
  (void)place, (void)address;
  throw Error(ExitCode::unavailable, "this build has no NCCL", "build where nccl.h is found, or use DIST_BACKEND=gloo");
#endif
}

bool is_recording() {
#ifdef PGOLF_WITH_NCCL
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
#else
  return false;
#endif
}

}  // namespace pgolf
