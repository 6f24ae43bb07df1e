// Causal attention of one query head on the CPU: called by attention_cpu.cpp, implemented by simd/attention.cpp (float32) and
// amx/attention.cpp (bfloat16). As in kernels.h: raw memory, no LibTorch, no threads.
#pragma once

#include "kernels.h"

namespace pgolf::ops {

/// A [rows, columns] matrix with contiguous rows.
template <class Pointer>
struct Rows {
  Pointer data;
  int64_t stride;  ///< from one row to the next, in elements
};

/// One query head with its key/value head, each [time, dim].
template <class T>
struct AttentionInput {
  Rows<const T*> q, k, v;
  int64_t time, dim;  ///< time >= 1, dim a multiple of kAttentionDimMultiple up to kMaxAttentionDim
  int64_t window;     ///< >= 1; query i sees the keys i - window + 1 .. i. On tiles at least `time`
};

constexpr int64_t kAttentionDimMultiple = 16, kMaxAttentionDim = 256;

/// With s = q k^T / sqrt(dim) and p = softmax of s over the keys not later than the query:
///   out = p v;  ds = p * (dout v^T - rowsum(dout * out)),  dq = ds k / sqrt(dim),  dk = ds^T q / sqrt(dim),  dv = p^T dout
/// (flash attention, arXiv 2205.14135: p is computed block by block, and again for the gradients). Sums are float32.
template <class T>
struct AttentionKernels {
  using Element = T;

  /// Bytes of scratch, aligned to 64, that a call of forward or backward needs.
  int64_t (*scratch_bytes)(int64_t time, int64_t dim);

  /// log_sums [time]: log2 of sum over keys of e^s, for the backward pass.
  void (*forward)(const AttentionInput<T>& input, Rows<T*> out, float* log_sums, void* scratch);

  /// dk, dv: dense, this query head's share only; sum_heads() adds up the shares of a group.
  void (*backward)(const AttentionInput<T>& input, Rows<const T*> out, Rows<const T*> dout, const float* log_sums, Rows<T*> dq,
                   float* dk, float* dv, void* scratch);

  /// to [time, dim] = the sum of `heads` dense matrices that follow one another, in order, rounded once.
  void (*sum_heads)(const float* from, int64_t heads, Rows<T*> to, int64_t time, int64_t dim);
};

/// bfloat16; only if amx_usable().
const AttentionKernels<Bf16>& amx_attention_kernels();

}  // namespace pgolf::ops
