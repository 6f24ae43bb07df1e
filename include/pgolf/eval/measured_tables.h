// The cos/sin tables that a model actually holds.
#pragma once

#include <cstdint>

#include "pgolf/model/gpt.h"

namespace pgolf {

/// Bytes of the tables of all layers for one length, as predicted by rope_table_bytes (config/cache_size.h). Creates them if the
/// model has not seen that length yet.
int64_t measured_rope_table_bytes(Gpt& model, int64_t seq_len);

}  // namespace pgolf
