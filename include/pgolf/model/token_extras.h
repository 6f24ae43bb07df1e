// What a token contributes besides its embedding: a vector for the pair with the token before it, part of the embedding before
// it, and something to attention's values.
#pragma once

#include <torch/nn/modules/embedding.h>

#include "pgolf/model/linear.h"

namespace pgolf {

/// The row of a table for each token and the one before it: (36313 t_i XOR 27191 t_(i-1)) mod (rows - 1), and rows - 1 for the
/// first. Hashes of tokens below kMaxBigramVocabSize fit into 32 bits, so the integer width does not matter.
/// ids [B, T] int64 -> [B, T] int64.
at::Tensor bigram_rows(const at::Tensor& ids, int64_t rows);

/// scale * proj(embed[rows]): a table that is narrower than what it adds to, or scale * embed[rows] if it is not.
class ScaledEmbeddingImpl : public torch::nn::Module {
 public:
  /// A table of rows x dim, for a sum of `width`.
  ScaledEmbeddingImpl(int64_t rows, int64_t dim, int64_t width, double initial_scale);

  at::Tensor forward(const at::Tensor& rows, OpsPath path);  ///< [B, T] int64 -> [B, T, width] in the table's dtype

  at::Tensor scale;  ///< scalar float32
  torch::nn::Embedding embed{nullptr};
  CastedLinear proj{nullptr};  ///< null if dim is width
};
TORCH_MODULE(ScaledEmbedding);

/// (1 - g) x_t + g x_(t-1) with g = sigmoid(gate) per channel, and zeros before the first position.
class SmearGateImpl : public torch::nn::Module {
 public:
  explicit SmearGateImpl(int64_t dim);

  at::Tensor forward(const at::Tensor& x, OpsPath path);  ///< [B, T, C] -> [B, T, C]

  at::Tensor gate;  ///< [C] float32, zeros
};
TORCH_MODULE(SmearGate);

}  // namespace pgolf
