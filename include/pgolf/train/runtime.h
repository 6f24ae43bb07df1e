// Runtime environment of a run: device, compute dtype, threads, memory, signals.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "pgolf/config/run_config.h"
#include "pgolf/dist/process.h"

namespace pgolf {

/// DEVICE, DTYPE, NUM_THREADS and CUDA_GRAPHS resolved for this machine.
struct Runtime {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  ///< of activations; float32 or bfloat16
  int num_threads = 1;
  bool cuda_graphs = false;
};

/// Resolves and applies the choices (thread count, attention back ends). automatic: a CUDA device if this build and
/// machine have one; bfloat16 on CUDA and on processors with bfloat16 matrix instructions (AMX, AVX-512 BF16), else float32.
/// DETERMINISTIC: only deterministic algorithms in LibTorch, and a fixed cuBLAS workspace.
/// With CUDA graphs, sets a non-default current stream in the calling thread, because the default stream cannot be recorded.
/// Warns about DTYPE=bfloat16 on a processor without bfloat16 instructions.
/// Of a job of several processes on this machine, each gets the GPU of its local rank, and its share of the cores.
/// gpu: its number, instead of that. Error(unavailable) for DEVICE=cuda or CUDA_GRAPHS=on without one, or a local rank without a
/// GPU.
Runtime start_runtime(const RuntimeConfig& config, const Process& process = {}, std::optional<int> gpu = {});

/// "float32" or "bfloat16".
const char* dtype_name(at::ScalarType dtype);

/// 0 in a build without CUDA.
int gpu_count();

/// "gpu:NAME sm:90 memory:MIB cudnn:VERSION" of a CUDA device; "" for others.
std::string gpu_description(const at::Device& device);

/// Waits until the device has finished all submitted work.
void synchronize(const at::Device& device);

struct PeakMemory {
  int64_t allocated = 0;  ///< bytes; on the CPU the peak resident size of the process
  int64_t reserved = 0;   ///< bytes; the same on the CPU
};
PeakMemory peak_memory(const at::Device& device);

/// SIGINT, SIGTERM and, unless ignored (nohup), SIGHUP: the first sets a flag that training reads, the second ends the process at
/// once. Writing to a pipe whose reader has gone is an error, not a signal.
void install_stop_signals();
/// The signal that asked for a stop, or 0.
int stop_signal();

}  // namespace pgolf
