// The process group for the CPU. Compiled with gloo_headers/ in place of gloo's own headers, which LibTorch's wheel does not
// carry.
#define USE_C10D_GLOO 1
#include <gloo/transport/unbound_buffer.h>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "backends.h"

namespace pgolf {

BackendPtr make_gloo(const BackendPlace& place, const std::string& address, const std::string& interface) {
  auto options = c10d::ProcessGroupGloo::Options::create();
  options->timeout = place.timeout;
  options->devices.push_back(interface.empty() ? c10d::ProcessGroupGloo::createDeviceForHostname(address)
                                               : c10d::ProcessGroupGloo::createDeviceForInterface(interface));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(place.store, place.rank, place.world_size, options);
}

}  // namespace pgolf
