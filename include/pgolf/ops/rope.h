// Rotary position embedding tables and their application to normalized queries and keys.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "pgolf/config/ops_path.h"
#include "pgolf/config/rope_spec.h"

namespace pgolf::ops {

/// cos and sin of position * inv_freq, half width. Not trainable, not part of any state dict.
struct RopeTable {
  at::Tensor cos;  ///< [T, span/2], float32 (or bfloat16 for RopeTableDtype::bfloat16)
  at::Tensor sin;  ///< same
  RopeStyle style = RopeStyle::half;

  /// The rows of `count` positions from `first` on, as views.
  RopeTable positions(int64_t first, int64_t count) const {
    return {cos.narrow(0, first, count), sin.narrow(0, first, count), style};
  }
};

/// inv_freq [span/2] float32 on the CPU: inv_freq_i = base^(-2i / span), or 0 (so cos 1 and sin 0) where spec.rotates(i) is
/// false; for RopeSelect::prefix span is rope_dims, otherwise head_dim. Scalings: linear inv_freq / factor; ntk with base *
/// factor^(span / (span-2)); yarn (arXiv 2309.00071, section 3.2): with L the original length and d(n) = span ln(L / (2 pi n)) /
/// (2 ln base), the pair that makes n full rotations in L, pairs up to floor(d(32)) unscaled, those from ceil(d(1)) on divided by
/// factor, linear in between.
at::Tensor rope_inv_freq(const RopeSpec& spec);

/// Builds a table for positions first_position .. first_position + seq_len - 1 with rope_inv_freq().
/// With table_dtype bfloat16 the frequencies, the positions and the angles are bfloat16 as well, which is
/// what upstream computes after casting its module to bfloat16.
RopeTable make_rope_table(const RopeSpec& spec, int64_t seq_len, const at::Device& device, int64_t first_position = 0);

/// Tables keyed by everything that determines them, shared by all layers of a model.
class RopeTableCache {
 public:
  /// Equal arguments return the same table until too many different ones make the cache drop its tables. Tables in use stay
  /// valid.
  std::shared_ptr<const RopeTable> get(const RopeSpec& spec, int64_t seq_len, const at::Device& device);
  /// Bytes held by all tables, measured on the tensors.
  int64_t bytes() const;

 private:
  using Key = std::tuple<RopeSpec, int64_t, int, int>;  // length, device type and index
  std::map<Key, std::shared_ptr<const RopeTable>> tables_;
};

/// Rotates dims 0 .. 2*half-1 of the last dimension, where half = table.cos.size(-1), and copies the rest:
///   y[a] = x[a] cos_i + x[b] sin_i,  y[b] = -x[a] sin_i + x[b] cos_i,  (a, b) = (i, i + half) or (2i, 2i + 1) by table.style
/// (the sign of upstream's apply_rotary_emb: a rotation by minus the angle).
/// x [B, H, T, D] -> same. Reference form: plain ATen, table cast to x's dtype, differentiable.
at::Tensor apply_rope(const at::Tensor& x, const RopeTable& table);

/// k [B, H, T, D] with the dims that do not rotate taken from the position before (the first position keeps its own), so that
/// what a query looks for there is followed by what it wants (modded-nanogpt's partial key offset). Differentiable.
at::Tensor offset_keys(const at::Tensor& k, const RopeSpec& spec);

/// Applied to queries and keys between projection and attention:
///   q = rope(rms_norm(q)) * q_gain[head],  k = rope(rms_norm(k)); the norms only if qk_norm.
/// q [B, T, Hq, D], k [B, T, Hkv, D] (as the projections write them), q_gain [Hq] float32
/// -> ([B, Hq, T, D], [B, Hkv, T, D]) in q's dtype. table == nullptr: no rotation. Differentiable in q, k, q_gain.
std::pair<at::Tensor, at::Tensor> qk_norm_rope_gain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& q_gain,
                                                    const RopeTable* table, OpsPath path, bool qk_norm = true);

}  // namespace pgolf::ops
