#include "pgolf/train/runtime.h"

#include <ATen/Parallel.h>
#include <ATen/SDPBackend.h>
#include <malloc.h>
#include <sys/resource.h>
#include <torch/cuda.h>
#include <torch/types.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <limits>

#include "pgolf/base/cores.h"
#include "pgolf/base/cpu_level.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"

#ifdef PGOLF_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace pgolf {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

void on_stop_signal(int signal) {
  if (stop_requested != 0) ::_exit(128 + signal);
  stop_requested = signal;
}

}  // namespace

Runtime start_runtime(const RuntimeConfig& config, const Process& process, std::optional<int> gpu) {
#ifdef __GLIBC__
  // Keep a step's large buffers in the process: returning them to the kernel costs a page fault per page on every use.
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
  Runtime runtime;
  const bool have_cuda = torch::cuda::is_available();
  if (config.device == DeviceChoice::cuda && !have_cuda) {
    throw Error(ExitCode::unavailable, "DEVICE=cuda, but no CUDA device is available",
                "use DEVICE=cpu or DEVICE=auto, or check the driver with nvidia-smi");
  }
  if (have_cuda && config.device != DeviceChoice::cpu) {
    const int count = gpu_count(), index = gpu.value_or(process.gpu_index(count));
    if (index >= count) {
      throw Error(ExitCode::unavailable, format("LOCAL_RANK=%d, but this machine has %d GPUs", index, count),
                  "start one process per GPU, or use DEVICE=cpu");
    }
    runtime.device = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
#ifdef PGOLF_WITH_CUDA
    c10::cuda::set_device(runtime.device.index());
#endif
  }
  if (config.dtype == DtypeChoice::bfloat16 ||
      (config.dtype == DtypeChoice::automatic && (runtime.device.is_cuda() || cpu_level() >= CpuLevel::avx512bf16))) {
    runtime.dtype = at::kBFloat16;
  }
  if (runtime.device.is_cpu() && runtime.dtype == at::kBFloat16 && cpu_level() < CpuLevel::avx512bf16) {
    log::warn(
        format("DTYPE=bfloat16 on a processor without bfloat16 instructions (%s): products are computed in float32 and "
               "rounded, or, with OPS=reference, emulated, ten times slower; DTYPE=float32 is as fast and more accurate",
               cpu_level_name(cpu_level())));
  }
  if (config.cuda_graphs == SwitchChoice::on && !runtime.device.is_cuda()) {
    throw Error(ExitCode::unavailable, "CUDA_GRAPHS=on needs a CUDA device", "use CUDA_GRAPHS=auto");
  }
  runtime.cuda_graphs = runtime.device.is_cuda() && config.ops == OpsPath::fast && config.cuda_graphs != SwitchChoice::off;
#ifdef PGOLF_WITH_CUDA
  if (runtime.cuda_graphs) c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(false, runtime.device.index()));
#endif
  runtime.num_threads = config.num_threads > 0 ? config.num_threads : default_threads(process.local_world_size());
  at::set_num_threads(runtime.num_threads);
  auto& context = at::globalContext();
  context.setAllowTF32CuBLAS(true);
  context.setAllowTF32CuDNN(true);
  // The fast path prefers cuDNN's attention, which is faster on Hopper; upstream disables it.
  context.setSDPUseCuDNN(config.ops == OpsPath::fast);
  context.setSDPPriorityOrder(
      {static_cast<int64_t>(at::SDPBackend::cudnn_attention), static_cast<int64_t>(at::SDPBackend::flash_attention),
       static_cast<int64_t>(at::SDPBackend::efficient_attention), static_cast<int64_t>(at::SDPBackend::math)});
  context.setSDPUseFlash(true);
  context.setSDPUseMemEfficient(false);
  // Fallback for float32 on CUDA and for head_dim above 256.
  context.setSDPUseMath(true);
  if (config.deterministic) {
    ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
    context.setDeterministicAlgorithms(true, /*warn_only=*/false);
    context.setDeterministicFillUninitializedMemory(false);
  }
  return runtime;
}

const char* dtype_name(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? "bfloat16" : "float32";
}

int gpu_count() {
  return static_cast<int>(torch::cuda::device_count());
}

std::string gpu_description(const at::Device& device) {
#ifdef PGOLF_WITH_CUDA
  if (device.is_cuda()) {
    const auto* const properties = at::cuda::getDeviceProperties(device.index());
    return format("gpu:%s sm:%d%d memory:%zuMiB cudnn:%ld", properties->name, properties->major, properties->minor,
                  properties->totalGlobalMem >> 20, at::detail::getCUDAHooks().versionRuntimeCuDNN());
  }
#else
  (void)device;
#endif
  return "";
}

void synchronize(const at::Device& device) {
#ifdef PGOLF_WITH_CUDA
  if (device.is_cuda()) c10::cuda::device_synchronize();
#else
  (void)device;
#endif
}

PeakMemory peak_memory(const at::Device& device) {
#ifdef PGOLF_WITH_CUDA
  if (device.is_cuda()) {
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
    return {stats.allocated_bytes[0].peak, stats.reserved_bytes[0].peak};
  }
#else
  (void)device;
#endif
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const int64_t bytes = int64_t{usage.ru_maxrss} * 1024;
  return {bytes, bytes};
}

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction present {};
    ::sigaction(number, nullptr, &present);
    if (number != SIGHUP || present.sa_handler != SIG_IGN) ::sigaction(number, &action, nullptr);  // ignored under nohup
  }
  std::signal(SIGPIPE, SIG_IGN);  // a reader of the log that has gone is no reason to end
}

int stop_signal() {
  return stop_requested;
}

}  // namespace pgolf
