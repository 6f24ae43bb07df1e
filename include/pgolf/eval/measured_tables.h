// The cos/sin tables that a model really uses.
#pragma once

#include <cstdint>

#include "pgolf/model/gpt.h"

namespace pgolf {

/// Bytes of the tables of all layers for one length, what rope_table_bytes (config/cache_size.h) predicts; they are made if the
/// model has not seen that length yet.
int64_t measured_rope_table_bytes(Gpt& model, int64_t seq_len);

}  // namespace pgolf
