#include "pgolf/ops/rope.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include "fast_ops.h"
#include "pgolf/ops/rms_norm.h"

namespace pgolf::ops {

RopeTable make_rope_table(const RopeSpec& spec, int64_t seq_len, const at::Device& device, int64_t first_position) {
  TORCH_CHECK(spec.rope_dims > 0 && spec.rope_dims % 2 == 0, "no table for rope_dims ", spec.rope_dims);
  // The same ATen calls as the Python program's, so that the bits are the same; made on the host for every device.
  const auto exponents = at::arange(0, spec.rope_dims, 2, at::kFloat) / spec.rope_dims;
  at::Tensor inv_freq = at::pow(spec.base, exponents).reciprocal() * 1.0;
  const auto dtype = spec.table_dtype == RopeTableDtype::bfloat16 ? at::kBFloat16 : at::kFloat;
  inv_freq = inv_freq.to(dtype);
  const auto positions = at::arange(first_position, first_position + seq_len, at::TensorOptions().dtype(dtype));
  const auto angles = at::outer(positions, inv_freq);
  return {angles.cos().to(device), angles.sin().to(device)};
}

const RopeTable& RopeTableCache::get(const RopeSpec& spec, int64_t seq_len, const at::Device& device) {
  const Key key{spec.rope_dims, spec.base, spec.table_dtype, seq_len, static_cast<int>(device.type()), device.index()};
  auto found = tables_.find(key);
  if (found == tables_.end()) found = tables_.emplace(key, make_rope_table(spec, seq_len, device)).first;
  return found->second;
}

int64_t RopeTableCache::bytes() const {
  int64_t total = 0;
  for (const auto& [key, table] : tables_) total += static_cast<int64_t>(table.cos.nbytes() + table.sin.nbytes());
  return total;
}

at::Tensor apply_rope(const at::Tensor& x, const RopeTable& table) {
  const int64_t half = table.cos.size(-1);
  const auto cos = table.cos.to(x.scalar_type());
  const auto sin = table.sin.to(x.scalar_type());
  const auto x1 = x.narrow(-1, 0, half);
  const auto x2 = x.narrow(-1, half, half);
  std::vector<at::Tensor> parts{x1 * cos + x2 * sin, x1 * (-sin) + x2 * cos};
  if (x.size(-1) > 2 * half) parts.push_back(x.narrow(-1, 2 * half, x.size(-1) - 2 * half));
  return at::cat(parts, -1);
}

std::pair<at::Tensor, at::Tensor> qk_norm_rope_gain(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& q_gain,
                                                    const RopeTable* table, OpsPath path) {
  RECORD_USER_SCOPE("qk_norm_rope_gain");
  if (path == OpsPath::fast) {
    if (auto outputs = fast::qk_norm_rope_gain(q_in, k_in, q_gain, table); outputs.first.defined()) return outputs;
  }
  at::Tensor q = rms_norm(q_in.transpose(1, 2), path);
  at::Tensor k = rms_norm(k_in.transpose(1, 2), path);
  if (table != nullptr) {
    q = apply_rope(q, *table);
    k = apply_rope(k, *table);
  }
  q = q * q_gain.to(q.scalar_type()).view({1, -1, 1, 1});
  return {q, k};
}

}  // namespace pgolf::ops
