// Comparison with tensors and numbers recorded from upstream. The recordings are not part of the project; without them the tests
// are skipped.
#pragma once

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "pgolf/artifact/safetensors.h"
#include "pgolf/model/gpt.h"
#include "pgolf/model_io/tensors.h"

namespace pgolf::reference {

using nlohmann::json;

inline std::filesystem::path shared_folder() {
  const char* given = std::getenv("PGOLF_SHARED");
  return given != nullptr ? given : std::filesystem::path(PGOLF_SOURCE_DIR) / ".." / "shared";
}

/// Whether results of matrix products can be expected bit for bit: the recordings come from a Sapphire Rapids processor
/// with AMX (a hypervisor may hide it), and oneDNN and MKL choose their kernels by the processor.
inline bool same_processor() {
#ifdef __x86_64__
  static const bool same = [] {
    std::ifstream file("/proc/cpuinfo");
    const std::string cpuinfo((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return __builtin_cpu_is("sapphirerapids") != 0 && at::get_cpu_capability() == "AVX512" &&
           cpuinfo.find(" amx_bf16") != std::string::npos;
  }();
  return same;
#else
  return false;
#endif
}

/// Whether LibTorch draws random numbers with vector instructions, as it did for the recordings.
inline bool vectors_in_libtorch() {
  return at::get_cpu_capability() != "DEFAULT";
}

/// Single thread, as the recordings were made; skips without them.
class ReferenceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    if (!std::filesystem::exists(shared_folder() / "reference")) {
      GTEST_SKIP() << "no recordings of upstream at " << shared_folder() << " (PGOLF_SHARED)";
    }
    if (!same_processor()) std::cout << "not the recordings' processor: compared within tolerances, not bit for bit\n";
  }
};

inline json load_json(const std::string& name) {
  return json::parse(std::ifstream(shared_folder() / "reference" / name));
}

inline std::map<std::string, at::Tensor> load_tensors(const std::string& name) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [key, raw] : load_safetensors(shared_folder() / "reference" / name).tensors) tensors[key] = to_tensor(raw);
  return tensors;
}

inline StateDict load_state(const std::string& name) {
  StateDict state;
  for (const auto& [key, raw] : load_safetensors(shared_folder() / "reference" / name).tensors)
    state.emplace_back(key, to_tensor(raw));
  return state;
}

/// max |actual - expected| / max |expected|.
inline double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  const auto a = actual.detach().to(at::kDouble), e = expected.detach().to(at::kDouble);
  const double scale = e.numel() == 0 ? 0 : e.abs().max().item<double>();
  const double error = e.numel() == 0 ? 0 : (a - e).abs().max().item<double>();
  return scale > 0 ? error / scale : error;
}

/// Same bits on the recording's kind of processor, else within tolerance (relative to the largest entry).
inline void expect_equal(const at::Tensor& actual, const at::Tensor& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  if (same_processor()) {
    EXPECT_TRUE(at::equal(actual.detach().to(expected.scalar_type()), expected))
        << what << ": off by " << relative_error(actual, expected);
  } else {
    EXPECT_LE(relative_error(actual, expected), tolerance) << what;
  }
}

/// The same for a tensor of which only a description was recorded: {sha256, abs_max, l2, mean, first, ...}.
inline void expect_described(const at::Tensor& actual, const json& described, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.sizes().vec(), described.at("shape").get<std::vector<int64_t>>()) << what;
  if (same_processor()) {
    EXPECT_EQ(sha256_hex(actual), described.at("sha256").get<std::string>()) << what;
    return;
  }
  const auto values = actual.detach().to(at::kDouble).contiguous();
  const double scale = described.at("abs_max").get<double>();
  EXPECT_NEAR(values.norm().item<double>(), described.at("l2").get<double>(),
              tolerance * (described.at("l2").get<double>() + 1e-30))
      << what;
  const auto first = described.at("first").get<std::vector<double>>();
  for (size_t i = 0; i < first.size(); ++i)
    EXPECT_NEAR(values.data_ptr<double>()[i], first[i], tolerance * scale + 1e-30) << what;
}

/// The configuration "tiny" of the recordings.
inline ModelConfig tiny_model() {
  ModelConfig model;
  model.num_layers = 4;
  model.model_dim = 128;
  model.num_heads = 4;
  model.num_kv_heads = 2;
  return model;
}

inline const std::vector<std::string>& control_patterns() {
  static const OptimConfig config;
  return config.control_patterns;
}

}  // namespace pgolf::reference
