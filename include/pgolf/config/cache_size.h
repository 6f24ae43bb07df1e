// Memory that grows with the sequence length, by formula.
#pragma once

#include <cstdint>

#include "pgolf/config/run_config.h"

namespace pgolf {

/// Bytes of the model's cos/sin tables for one length: layers with equal RopeSpecs share a table, which has two numbers (float32,
/// or bfloat16 by ROPE_TABLE_DTYPE) per position and pair of the span.
int64_t rope_table_bytes(const ModelConfig& model, int64_t seq_len);

/// Bytes of keys and values, in bfloat16, for one sequence: 2 * passes * kv_heads * head_dim * seq_len * 2, where a block passes
/// once, or as often as it is looped. Independent of rope_dims.
int64_t kv_cache_bytes(const ModelConfig& model, int64_t seq_len);

}  // namespace pgolf
