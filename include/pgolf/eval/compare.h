// Two models on the same tokens, and their weights side by side.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pgolf/artifact/contents.h"
#include "pgolf/validation/bpb.h"

namespace pgolf {

struct Comparison {
  EvalResult a, b;
  int64_t windows = 0;
  double stderr_difference = 0;  ///< of b.val_loss - a.val_loss: over the windows' mean differences; NaN for one window
  double kl = 0;                 ///< mean over the tokens of KL(A || B) = sum p_A (log p_A - log p_B), nats
  double stderr_kl = 0;          ///< over the windows' means
  double top1_agreement = 0;     ///< part of the tokens for which both find the same next token likeliest
};

/// Scores what evaluate() scores. Logits in float32, losses and divergence in float32, sums in float64. Both
/// models have the same vocabulary.
Comparison compare_models(Gpt& a, Gpt& b, const ValidationSet& validation, const ByteCounts& byte_counts,
                          const EvalOptions& options);

/// One tensor of A against the same of B, both as they are read. Norms and maxima in float64.
struct TensorDifference {
  std::string name;
  std::vector<int64_t> shape;
  double relative_rms = 0;           ///< |a - b| / |a|; 0 if they are equal, infinite if only a is all zeros
  double max_abs = 0;                ///< max |a - b|
  int64_t bytes_a = 0, bytes_b = 0;  ///< as stored, scales included, before compression
  double bits_a = -1, bits_b = -1;   ///< entropy of int8 codes, bits per weight; < 0: it has no codes
};

/// Empty, with *why in words, unless both states have the same names and shapes. contents_a, contents_b: of the same files.
std::vector<TensorDifference> compare_tensors(const StateDict& a, const StateDict& b, const FileContents& contents_a,
                                              const FileContents& contents_b, std::string* why);

}  // namespace pgolf
