// PlainModel with LayerNorms instead of RMSNorms.
#include <torch/types.h>

#include <cmath>

#include "pgolf/model_io/plain_model.h"

namespace pgolf {
namespace {

/// [wide, width]: orthonormal columns, each of which sums to 0. Of the reflection that exchanges the last of width + 1 axes with
/// the diagonal, which is orthogonal to the images of the other axes; the remaining rows are zero.
at::Tensor isometry(int64_t wide, int64_t width) {
  const int64_t size = width + 1;
  at::Tensor normal = at::full({size}, -1 / std::sqrt(static_cast<double>(size)), at::kDouble);
  normal[width] += 1;
  const auto reflection = at::eye(size, at::kDouble) - 2 / normal.dot(normal) * at::outer(normal, normal);
  return at::constant_pad_nd(reflection.narrow(1, 0, width), {0, 0, 0, wide - size});
}

/// Zeros after the given number of rows of each head.
at::Tensor pad_heads(const at::Tensor& rows, int64_t heads, int64_t more_per_head) {
  const auto by_head = rows.view({heads, -1, rows.size(1)});
  return at::constant_pad_nd(by_head, {0, 0, 0, more_per_head}).flatten(0, 1);
}

at::Tensor pad_rows(const at::Tensor& rows, int64_t more) {
  return at::constant_pad_nd(rows, {0, 0, 0, more});
}

/// q or k, followed in each head by minus itself.
at::Tensor with_negatives(const at::Tensor& rows, int64_t heads) {
  const auto by_head = rows.view({heads, -1, rows.size(1)});
  return at::cat({by_head, -by_head}, 1).flatten(0, 1);
}

at::Tensor and_zeros(const at::Tensor& norm) {
  return at::cat({norm, at::zeros_like(norm)}, 1);
}

void double_heads(PlainLayer& layer, const PlainModel& model) {
  layer.q = with_negatives(layer.q, model.heads);
  layer.k = with_negatives(layer.k, model.kv_heads);
  layer.v = pad_heads(layer.v, model.kv_heads, model.head_dim);
  layer.attn_out = pad_heads(layer.attn_out.t(), model.heads, model.head_dim).t();
  // The scores are divided by the square root of twice as many dimensions.
  layer.q_norm = and_zeros(layer.q_norm * std::sqrt(2.0));
  layer.k_norm = and_zeros(layer.k_norm);
}

void add_heads(PlainLayer& layer, const PlainModel& model, int64_t more) {
  const int64_t more_rows = more * model.head_dim;
  const int64_t more_kv_rows = more_rows * model.kv_heads / model.heads;
  layer.q = pad_rows(layer.q, more_rows);
  layer.k = pad_rows(layer.k, more_kv_rows);
  layer.v = pad_rows(layer.v, more_kv_rows);
  layer.attn_out = pad_rows(layer.attn_out.t(), more_rows).t();
}

}  // namespace

void repeat_kv_heads(PlainModel& model) {
  const int64_t copies = model.heads / model.kv_heads;
  const auto repeated = [&](const at::Tensor& rows) {
    return rows.view({model.kv_heads, model.head_dim, -1}).repeat_interleave(copies, 0).flatten(0, 1);
  };
  for (PlainLayer& layer : model.layers) {
    layer.k = repeated(layer.k);
    layer.v = repeated(layer.v);
    if (layer.k_norm.defined()) layer.k_norm = layer.k_norm.repeat_interleave(copies, 0);
  }
  model.kv_heads = model.heads;
}

void use_layer_norms(PlainModel& model) {
  const int64_t width = model.width, group = model.heads / model.kv_heads;
  for (PlainLayer& layer : model.layers) {
    if (layer.q_norm.defined()) {
      double_heads(layer, model);
    } else {
      add_heads(layer, model, group);
    }
  }
  if (model.qk_norm()) {
    model.head_dim *= 2;
  } else {
    model.heads += group;
    model.kv_heads += 1;
  }
  const int64_t wide = model.heads * model.head_dim;
  // So scaled, the mean square of a vector and of its image are the same, and so is what eps does.
  const double scale = std::sqrt(static_cast<double>(wide) / static_cast<double>(width));
  const at::Tensor carry = isometry(wide, width);
  const auto reads = [&](at::Tensor& matrix, const at::Tensor& norm) { matrix = (matrix * norm).matmul(carry.t()) / scale; };
  const auto writes = [&](at::Tensor& matrix) { matrix = carry.matmul(matrix) * scale; };
  const at::Tensor ones = at::ones({wide}, at::kDouble);
  for (PlainLayer& layer : model.layers) {
    for (at::Tensor* matrix : {&layer.q, &layer.k, &layer.v}) reads(*matrix, layer.attn_norm);
    for (at::Tensor* matrix : {&layer.mlp_gate, &layer.mlp_up}) {
      if (matrix->defined()) reads(*matrix, layer.mlp_norm);
    }
    writes(layer.attn_out);
    writes(layer.mlp_down);
    layer.attn_norm = layer.mlp_norm = ones;
  }
  reads(model.head, model.final_norm);
  model.final_norm = ones;
  model.embedding = model.embedding.matmul(carry.t()) * scale;
  model.width = wide;
  model.layer_norms = true;
}

}  // namespace pgolf
