// Memory that grows with the length of a window, by formula.
#pragma once

#include <cstdint>

#include "pgolf/config/run_config.h"

namespace pgolf {

/// Bytes of the model's cos/sin tables for one length: layers with equal RopeSpecs share one, which has two numbers (float32, or
/// bfloat16 by ROPE_TABLE_DTYPE) for every position and pair of the span.
int64_t rope_table_bytes(const ModelConfig& model, int64_t seq_len);

/// Bytes of keys and values, in bfloat16, of all layers for one sequence: 2 * layers * kv_heads * head_dim * seq_len * 2.
/// What rotates makes no difference to it.
int64_t kv_cache_bytes(const ModelConfig& model, int64_t seq_len);

}  // namespace pgolf
