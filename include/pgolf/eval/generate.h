// Sampling text from a model.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "pgolf/eval/sampling.h"
#include "pgolf/model/gpt.h"

namespace pgolf {

/// Draws one token after another. The same options and logits give the same tokens.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);

  /// logits [V] float32 on the CPU.
  int next(const at::Tensor& logits);

 private:
  SamplingOptions options_;
  at::Generator generator_;
};

/// A text that grows, and what the model says of its next token. Of more tokens than the context the model sees the last ones: it
/// begins with the last `context` of the prompt, and whenever one more does not fit, the older half of the context is forgotten
/// and the newer half is read again, from position 0 on. Several of them may take turns on one model.
class Continuation {
 public:
  /// prompt: at least one id. keep: false computes the whole text anew for every token, which gives the same numbers up to
  /// rounding and is there to be compared with.
  Continuation(Gpt& model, const std::vector<int>& prompt, int context, const at::Device& device, bool keep = true);

  /// Logits [V] float32 on the CPU of the token after all that were pushed.
  at::Tensor logits();
  void push(int id) { ids_.push_back(id); }

 private:
  Gpt model_;
  std::vector<int64_t> ids_;
  size_t start_ = 0;  ///< the first that the model sees
  size_t context_;
  at::Device device_;
  std::optional<KvCache> cache_;
};

struct GenerateOptions : SamplingOptions {
  int max_new_tokens = 64;
  int context = 1024;    ///< tokens the model sees at most, see Continuation
  bool kv_cache = true;  ///< see Continuation::keep
};

/// Continues prompt (at least one id) and returns only the new ids; ends early before a second BOS (id 1), and when on_token,
/// which is shown each of them and may be empty, returns false.
std::vector<int> generate(Gpt& model, const std::vector<int>& prompt, const GenerateOptions& options, const at::Device& device,
                          const std::function<bool(int id)>& on_token = {});

}  // namespace pgolf
