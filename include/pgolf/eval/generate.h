// Sampling text from a model.
#pragma once

#include <cstdint>
#include <vector>

#include "pgolf/model/gpt.h"

namespace pgolf {

struct GenerateOptions {
  int max_new_tokens = 64;
  double temperature = 0.8;  ///< 0 = always the likeliest token
  int top_k = 50;            ///< sample among the k likeliest; 0 = all
  int64_t seed = 1;
  int context = 1024;  ///< tokens the model sees at most; earlier ones are dropped
};

/// Continues prompt (at least one id) and returns only the new ids; ends early before a second BOS (id 1).
std::vector<int> generate(Gpt& model, const std::vector<int>& prompt, const GenerateOptions& options, const at::Device& device);

}  // namespace pgolf
