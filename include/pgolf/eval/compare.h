// Compares two models on the same tokens and tensor by tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pgolf/artifact/contents.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/validation/bpb.h"

namespace pgolf {

struct Comparison {
  EvalResult a, b;
  int64_t windows = 0;
  double stderr_difference = 0;  ///< of b.val_loss - a.val_loss, over the windows' mean differences; NaN for one window
  double kl = 0;                 ///< mean over the tokens of KL(A || B) = sum p_A (log p_A - log p_B), nats
  double stderr_kl = 0;          ///< over the windows' means
  double top1_agreement = 0;     ///< fraction of the tokens for which both predict the same next token
};

/// Scores what evaluate() scores. Logits in float32, losses and divergence in float32, sums in float64. Both
/// models must have the same vocabulary size.
Comparison compare_models(Gpt& a, Gpt& b, const ValidationSet& validation, const ByteCounts& byte_counts,
                          const EvalOptions& options);

/// One tensor of A against the same one of B, both as read. Norms and maxima in float64.
struct TensorDifference {
  std::string name;
  std::vector<int64_t> shape;
  double relative_rms = 0;           ///< |a - b| / |a|; 0 if equal, infinite if only a is all zeros
  double max_abs = 0;                ///< max |a - b|
  int64_t bytes_a = 0, bytes_b = 0;  ///< as stored, scales included, before compression
  double bits_a = -1, bits_b = -1;   ///< entropy of int8 codes, bits per weight; < 0: no codes
};

/// Empty, with the reason in *why, unless both states have the same names and shapes. contents_a, contents_b: of the same files.
std::vector<TensorDifference> compare_tensors(const ModelFile& a, const ModelFile& b, const FileContents& contents_a,
                                              const FileContents& contents_b, std::string* why);

}  // namespace pgolf
