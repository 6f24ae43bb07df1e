// Tiny models and comparisons of tensors.
#pragma once

#include <gtest/gtest.h>
#include <torch/nn/init.h>
#include <torch/types.h>
#include <torch/utils.h>

#include "pgolf/model/gpt.h"

namespace pgolf::testing {

/// 2 layers, 32 lanes, 4 query and 2 key heads of 8 lanes, full rotation.
inline ModelConfig tiny_config() {
  ModelConfig config;
  config.vocab_size = 48;
  config.num_layers = 2;
  config.model_dim = 32;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  return config;
}

inline Gpt make_model(const ModelConfig& config, int64_t seed = 5, OpsPath path = OpsPath::reference) {
  torch::manual_seed(static_cast<uint64_t>(seed));
  return Gpt(config, path);
}

/// A model whose every parameter is random: freshly made, the zero projections hide what attention and MLP do.
inline Gpt make_random_model(const ModelConfig& config, int64_t seed = 5, OpsPath path = OpsPath::reference) {
  Gpt model = make_model(config, seed, path);
  torch::NoGradGuard no_grad;
  for (auto& parameter : model->parameters()) parameter.add_(torch::randn_like(parameter) * 0.2);
  return model;
}

inline at::Tensor random_ids(int64_t batch, int64_t time, int vocab_size, int64_t seed = 11) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(seed));
  return at::randint(0, vocab_size, {batch, time}, generator, at::TensorOptions().dtype(at::kLong));
}

/// Copies, so that later changes of the model do not show.
inline StateDict clone_state(const StateDict& state) {
  StateDict copy;
  for (const auto& [name, tensor] : state) copy.emplace_back(name, tensor.clone());
  return copy;
}

/// Same names in the same order, same dtypes, same bits.
inline void expect_same_tensors(const StateDict& actual, const StateDict& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_EQ(actual[i].first, expected[i].first);
    EXPECT_EQ(actual[i].second.scalar_type(), expected[i].second.scalar_type()) << actual[i].first;
    EXPECT_TRUE(at::equal(actual[i].second, expected[i].second)) << actual[i].first;
  }
}

inline std::vector<std::string> names_of(const StateDict& state) {
  std::vector<std::string> names;
  for (const auto& entry : state) names.push_back(entry.first);
  return names;
}

/// max |a - b|.
inline double distance(const at::Tensor& a, const at::Tensor& b) {
  return a.numel() == 0 ? 0 : (a.detach().to(at::kDouble) - b.detach().to(at::kDouble)).abs().max().item<double>();
}

}  // namespace pgolf::testing
