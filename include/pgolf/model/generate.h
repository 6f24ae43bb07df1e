// Sampling text from a model.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "pgolf/model/gpt.h"
#include "pgolf/model/sampling.h"

namespace pgolf {

/// Samples one token after another. The same options and logits give the same tokens.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);

  /// logits [V] float32 on the CPU.
  int next(const at::Tensor& logits);

 private:
  SamplingOptions options_;
  at::Generator generator_;
};

/// A growing text and the model's logits for its next token. The model sees at most `context` tokens: first the last ones of the
/// prompt; whenever the context is full, its older half is dropped and the newer half is recomputed from position 0. Several
/// continuations may alternate on one model.
class Continuation {
 public:
  /// prompt: at least one id. keep: use a KV cache; false recomputes the whole text for every token, with the same results up
  /// to rounding, as a reference.
  Continuation(Gpt& model, const std::vector<int>& prompt, int context, const at::Device& device, bool keep = true);

  /// Logits [V] float32 on the CPU for the token after those pushed so far.
  at::Tensor logits();
  void push(int id) { ids_.push_back(id); }

 private:
  Gpt model_;
  std::vector<int64_t> ids_;
  size_t start_ = 0;  ///< index of the first id that the model sees
  size_t context_;
  at::Device device_;
  std::optional<KvCache> cache_;
};

struct GenerateOptions : SamplingOptions {
  int max_new_tokens = 64;
  int context = 1024;     ///< maximum tokens the model sees, see Continuation
  bool kv_cache = true;   ///< see Continuation::keep
  std::vector<int> ends;  ///< ids that end the text, Tokenizer::document_ends()
};

/// Continues prompt (at least one id) and returns only the new ids. Ends early before one of the ends, or when on_token,
/// which is called with each new id and may be empty, returns false.
std::vector<int> generate(Gpt& model, const std::vector<int>& prompt, const GenerateOptions& options, const at::Device& device,
                          const std::function<bool(int id)>& on_token = {});

}  // namespace pgolf
