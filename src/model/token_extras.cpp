#include "pgolf/model/token_extras.h"

#include <torch/types.h>

#include "pgolf/ops/residual.h"

namespace pgolf {

at::Tensor bigram_rows(const at::Tensor& ids, int64_t rows) {
  const int64_t pairs = ids.size(1) - 1;
  const auto mixed = at::bitwise_xor(ids.narrow(1, 1, pairs) * 36313, ids.narrow(1, 0, pairs) * 27191);
  return at::cat({at::full_like(ids.narrow(1, 0, 1), rows - 1), mixed.remainder(rows - 1)}, 1);
}

ScaledEmbeddingImpl::ScaledEmbeddingImpl(int64_t rows, int64_t dim, int64_t width, double initial_scale) {
  scale = register_parameter("scale", torch::full({}, initial_scale, torch::kFloat));
  embed = register_module("embed", torch::nn::Embedding(rows, dim));
  if (dim != width) proj = register_module("proj", CastedLinear(dim, width));
}

at::Tensor ScaledEmbeddingImpl::forward(const at::Tensor& rows, OpsPath path) {
  const auto found = embed(rows);
  const auto wide = proj ? proj(found, path) : found;
  return wide * scale.to(wide.scalar_type());
}

SmearGateImpl::SmearGateImpl(int64_t dim) {
  gate = register_parameter("gate", torch::zeros({dim}));
}

at::Tensor SmearGateImpl::forward(const at::Tensor& x, OpsPath path) {
  const auto before = at::cat({at::zeros_like(x.narrow(1, 0, 1)), x.narrow(1, 0, x.size(1) - 1)}, 1);
  const auto g = gate.to(path == OpsPath::fast ? at::kFloat : x.scalar_type()).sigmoid();
  return ops::residual_mix(x, before, at::stack({1 - g, g}), path);
}

}  // namespace pgolf
