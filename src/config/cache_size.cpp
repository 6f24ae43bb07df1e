#include "pgolf/config/cache_size.h"

#include <set>

namespace pgolf {

int64_t rope_table_bytes(const ModelConfig& model, int64_t seq_len) {
  std::set<RopeSpec> specs;
  for (int layer = 0; layer < model.num_layers; ++layer) specs.insert(model.rope_of(layer));
  int64_t bytes = 0;
  for (const auto& spec : specs) {
    const int64_t number_bytes = spec.table_dtype == RopeTableDtype::bfloat16 ? 2 : 4;
    if (!spec.none()) bytes += 2 * seq_len * (spec.span() / 2) * number_bytes;
  }
  return bytes;
}

int64_t kv_cache_bytes(const ModelConfig& model, int64_t seq_len) {
  constexpr int64_t bfloat16_bytes = 2;
  return 2 * model.full_order().passes() * model.num_kv_heads * model.head_dim() * seq_len * bfloat16_bytes;
}

}  // namespace pgolf
