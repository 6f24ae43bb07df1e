// The process group for CUDA devices.
#ifdef PGOLF_WITH_NCCL
#define USE_C10D_NCCL 1
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <cstdlib>

#include "backends.h"
#include "pgolf/base/error.h"

namespace pgolf {

BackendPtr make_nccl(const BackendPlace& place) {
#ifdef PGOLF_WITH_NCCL
  // Its watchdog would end the process before Liveness can say who was lost.
  ::setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = place.timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(place.store, place.rank, place.world_size, std::move(options));
#else
  (void)place;
  throw Error(ExitCode::unavailable, "this build has no NCCL", "build where nccl.h is found, or use DIST_BACKEND=gloo");
#endif
}

}  // namespace pgolf
