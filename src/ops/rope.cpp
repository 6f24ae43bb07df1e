#include "pgolf/ops/rope.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "fast.h"
#include "pgolf/ops/rms_norm.h"

namespace pgolf::ops {

namespace {

/// YaRN's weight of linear scaling, per pair.
at::Tensor yarn_ramp(const RopeSpec& spec) {
  constexpr double fast_rotations = 32, slow_rotations = 1;
  const double span = spec.span(), pi = 3.14159265358979323846;
  const auto pair_of = [&](double rotations) {
    return span * std::log(spec.original_seq_len / (rotations * 2 * pi)) / (2 * std::log(spec.base));
  };
  const double low = std::max(std::floor(pair_of(fast_rotations)), 0.0);
  const double high = std::min(std::ceil(pair_of(slow_rotations)), span - 1);
  const auto pairs = at::arange(0, spec.span() / 2, at::kDouble);
  return at::clamp((pairs - low) / std::max(high - low, 0.001), 0, 1);
}

at::Tensor rotating_pairs(const RopeSpec& spec) {
  const auto mask = at::empty({spec.span() / 2}, at::kBool);
  for (int i = 0; i < spec.span() / 2; ++i) mask.mutable_data_ptr<bool>()[i] = spec.rotates(i);
  return mask;
}

}  // namespace

at::Tensor rope_inv_freq(const RopeSpec& spec) {
  TORCH_CHECK(spec.rope_dims > 0 && spec.rope_dims % 2 == 0, "rope_dims must be positive and even, not ", spec.rope_dims);
  check_rope_scaling(spec);
  const int span = spec.span();
  double base = spec.base;
  if (spec.scaling == RopeScaling::ntk) base *= std::pow(spec.scaling_factor, span / (span - 2.0));
  // The same ATen calls as upstream's, so that the bits are the same.
  const auto exponents = at::arange(0, span, 2, at::kFloat) / span;
  at::Tensor inv_freq = at::pow(base, exponents).reciprocal() * 1.0;
  if (spec.scaling == RopeScaling::linear) inv_freq = inv_freq / spec.scaling_factor;
  if (spec.scaling == RopeScaling::yarn) {
    const auto ramp = yarn_ramp(spec);
    inv_freq = (inv_freq * (ramp / spec.scaling_factor + (1 - ramp))).to(at::kFloat);
  }
  if (spec.select != RopeSelect::prefix) inv_freq = at::where(rotating_pairs(spec), inv_freq, 0.0);
  return inv_freq;
}

RopeTable make_rope_table(const RopeSpec& spec, int64_t seq_len, const at::Device& device, int64_t first_position) {
  // Computed on the host for every device.
  const auto dtype = spec.table_dtype == RopeTableDtype::bfloat16 ? at::kBFloat16 : at::kFloat;
  const auto inv_freq = rope_inv_freq(spec).to(dtype);
  const auto positions = at::arange(first_position, first_position + seq_len, at::TensorOptions().dtype(dtype));
  const auto angles = at::outer(positions, inv_freq);
  auto cos = angles.cos(), sin = angles.sin();
  if (spec.scaling == RopeScaling::yarn) {
    const double factor = 0.1 * std::log(spec.scaling_factor) + 1;
    cos = at::where(rotating_pairs(spec), cos * factor, cos);
    sin = sin * factor;
  }
  return {cos.to(device), sin.to(device), spec.style};
}

// Bounds the cache when text lengths keep changing, as in a server.
constexpr size_t kMaxTables = 64;

std::shared_ptr<const RopeTable> RopeTableCache::get(const RopeSpec& spec, int64_t seq_len, const at::Device& device) {
  const Key key{spec, seq_len, static_cast<int>(device.type()), device.index()};
  auto found = tables_.find(key);
  if (found == tables_.end() && tables_.size() >= kMaxTables) tables_.clear();
  if (found == tables_.end()) {
    found = tables_.emplace(key, std::make_shared<const RopeTable>(make_rope_table(spec, seq_len, device))).first;
  }
  return found->second;
}

int64_t RopeTableCache::bytes() const {
  int64_t total = 0;
  for (const auto& [key, table] : tables_) total += static_cast<int64_t>(table->cos.nbytes() + table->sin.nbytes());
  return total;
}

at::Tensor apply_rope(const at::Tensor& x, const RopeTable& table) {
  const int64_t half = table.cos.size(-1);
  const auto cos = table.cos.to(x.scalar_type());
  const auto sin = table.sin.to(x.scalar_type());
  std::vector<at::Tensor> parts;
  if (table.style == RopeStyle::half) {
    const auto x1 = x.narrow(-1, 0, half), x2 = x.narrow(-1, half, half);
    parts = {x1 * cos + x2 * sin, x1 * (-sin) + x2 * cos};
  } else {
    const auto x1 = x.slice(-1, 0, 2 * half, 2), x2 = x.slice(-1, 1, 2 * half, 2);
    parts = {at::stack({x1 * cos + x2 * sin, x1 * (-sin) + x2 * cos}, -1).flatten(-2)};
  }
  if (x.size(-1) > 2 * half) parts.push_back(x.narrow(-1, 2 * half, x.size(-1) - 2 * half));
  return at::cat(parts, -1);
}

at::Tensor offset_keys(const at::Tensor& k, const RopeSpec& spec) {
  const int64_t time = k.size(2);
  std::vector<at::Tensor> parts;
  for (int first = 0, end; first < spec.head_dim; first = end) {
    const bool rotates = spec.rotates_dim(first);
    for (end = first + 1; end < spec.head_dim && spec.rotates_dim(end) == rotates;) ++end;
    const auto own = k.narrow(3, first, end - first);
    parts.push_back(rotates ? own : at::cat({own.narrow(2, 0, 1), own.narrow(2, 0, time - 1)}, 2));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 3);
}

std::pair<at::Tensor, at::Tensor> qk_norm_rope_gain(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& q_gain,
                                                    const RopeTable* table, OpsPath path, bool qk_norm) {
  RECORD_USER_SCOPE("qk_norm_rope_gain");
  if (path == OpsPath::fast) {
    if (auto outputs = fast::qk_norm_rope_gain(q_in, k_in, q_gain, table, qk_norm); outputs.first.defined()) return outputs;
  }
  at::Tensor q = q_in.transpose(1, 2), k = k_in.transpose(1, 2);
  if (qk_norm) {
    q = rms_norm(q, path);
    k = rms_norm(k, path);
  }
  if (table != nullptr) {
    q = apply_rope(q, *table);
    k = apply_rope(k, *table);
  }
  q = q * q_gain.to(q.scalar_type()).view({1, -1, 1, 1});
  return {q, k};
}

}  // namespace pgolf::ops
