// Tests whose parameter is a device: one body, which runs on the CPU everywhere and on a CUDA device where there is one.
#pragma once

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>
#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

#include "pgolf/model/state_dict.h"
#include "pgolf/train/runtime.h"

namespace pgolf::testing {

class DeviceTest : public ::testing::TestWithParam<at::DeviceType> {
 protected:
  void SetUp() override {
    if (on_cuda() && !torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  }
  static bool on_cuda() { return GetParam() == at::kCUDA; }
  static at::Device device() { return on_cuda() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU); }
};

inline std::string device_test_name(const ::testing::TestParamInfo<at::DeviceType>& info) {
  return info.param == at::kCUDA ? "Cuda" : "Cpu";
}

/// The tests of a suite become Devices/SUITE.TEST/Cpu and .../Cuda: --gtest_filter='*Cuda*' has all that need a GPU.
#define PGOLF_ON_EVERY_DEVICE(suite) \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, ::testing::Values(at::kCPU, at::kCUDA), ::pgolf::testing::device_test_name)

/// float32 products on a GPU without rounding to TF32, which would hide everything below 2^-11. start_runtime() allows TF32, so
/// this comes after it.
inline void forbid_tf32() {
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
}

/// The process with the attention back ends that a run on this device and in this dtype has; afterwards as it was.
class RunSettings {
 public:
  RunSettings(const at::Device& device, at::ScalarType dtype) {
    const auto order = at::globalContext().sDPPriorityOrder();
    for (const auto backend : order) order_.push_back(static_cast<int64_t>(backend));
    RuntimeConfig config;
    config.device = device.is_cuda() ? DeviceChoice::cuda : DeviceChoice::cpu;
    config.dtype = dtype == at::kBFloat16 ? DtypeChoice::bfloat16 : DtypeChoice::float32;
    config.num_threads = threads_;
    config.cuda_graphs = SwitchChoice::off;  // they would change the current stream
    start_runtime(config);
    forbid_tf32();
  }
  RunSettings(const RunSettings&) = delete;
  RunSettings& operator=(const RunSettings&) = delete;
  ~RunSettings() {
    at::set_num_threads(threads_);
    auto& context = at::globalContext();
    context.setSDPUseCuDNN(cudnn_);
    context.setSDPUseFlash(flash_);
    context.setSDPUseMemEfficient(efficient_);
    context.setSDPUseMath(math_);
    context.setSDPPriorityOrder(order_);
  }

 private:
  const int threads_ = at::get_num_threads();
  const bool cudnn_ = at::globalContext().userEnabledCuDNNSDP(), flash_ = at::globalContext().userEnabledFlashSDP(),
             efficient_ = at::globalContext().userEnabledMemEfficientSDP(), math_ = at::globalContext().userEnabledMathSDP();
  std::vector<int64_t> order_;
};

inline at::Tensor on_cpu_in_double(const at::Tensor& x) {
  return x.detach().to(at::kCPU).to(at::kDouble);
}

/// max |a - b| / max |b|, for tensors of any device and dtype.
inline double largest_error(const at::Tensor& a, const at::Tensor& b) {
  const auto expected = on_cpu_in_double(b);
  return ((on_cpu_in_double(a) - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item<double>();
}

/// Root mean square of a - b over that of b.
inline double mean_error(const at::Tensor& a, const at::Tensor& b) {
  const auto expected = on_cpu_in_double(b);
  return ((on_cpu_in_double(a) - expected).norm() / expected.norm().clamp_min(1e-30)).item<double>();
}

inline StateDict on_cpu(const StateDict& state) {
  StateDict copy;
  for (const auto& [name, tensor] : state)
    copy.emplace_back(name, tensor.detach().to(at::kCPU, /*non_blocking=*/false, /*copy=*/true));
  return copy;
}

/// Runs body; what LibTorch refuses is a failure of this case, and the cases after it still get their turn.
inline void expect_runs(const std::function<void()>& body) {
  try {
    body();
  } catch (const c10::Error& error) {
    ADD_FAILURE() << error.what_without_backtrace();
  }
}

}  // namespace pgolf::testing
