#include "pgolf/eval/measured_tables.h"

#include <set>

namespace pgolf {

int64_t measured_rope_table_bytes(Gpt& model, int64_t seq_len) {
  std::set<std::shared_ptr<const ops::RopeTable>> tables;  // keeps them alive while the model replaces its own
  for (const auto& block : model->blocks) tables.insert(block->attn->rotary->table(seq_len, model->tok_emb->weight.device()));
  size_t bytes = 0;
  for (const auto& table : tables) bytes += table == nullptr ? 0 : table->cos.nbytes() + table->sin.nbytes();
  return static_cast<int64_t>(bytes);
}

}  // namespace pgolf
