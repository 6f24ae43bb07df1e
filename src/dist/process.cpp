#include "pgolf/dist/process.h"

#include <charconv>
#include <cstring>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

int read_int(const std::function<const char*(const char*)>& get, const char* name, int fallback) {
  const char* text = get(name);
  if (text == nullptr) return fallback;
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto result = std::from_chars(text, end, value);
  if (result.ec != std::errc() || result.ptr != end || value < 0) {
    throw Error(ExitCode::usage, format("%s=%s is not a non-negative integer", name, text),
                "it is set by torchrun; unset it for a single process");
  }
  return value;
}

}  // namespace

Process Process::from_environment(const std::function<const char*(const char*)>& get) {
  Process process;
  // As upstream: a job is distributed only if both variables are set.
  if (get("RANK") == nullptr || get("WORLD_SIZE") == nullptr) return process;
  process.rank_ = read_int(get, "RANK", 0);
  process.world_size_ = read_int(get, "WORLD_SIZE", 1);
  process.local_rank_ = read_int(get, "LOCAL_RANK", 0);
  if (process.world_size_ < 1 || kMicroSteps % process.world_size_ != 0) {
    throw Error(ExitCode::usage, format("WORLD_SIZE=%d must divide %d, so that grad_accum_steps = %d / WORLD_SIZE is an integer",
                                        process.world_size_, kMicroSteps, kMicroSteps));
  }
  if (process.rank_ >= process.world_size_) {
    throw Error(ExitCode::usage, format("RANK=%d must be less than WORLD_SIZE=%d", process.rank_, process.world_size_));
  }
  if (process.world_size_ > 1) {
    throw Error(ExitCode::unavailable,
                format("WORLD_SIZE=%d: training with several processes is not supported yet", process.world_size_),
                "run a single process without torchrun");
  }
  return process;
}

}  // namespace pgolf
