#include "pgolf/config/model_metadata.h"

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/config/options.h"

namespace pgolf {
namespace {

struct Field {
  const char* name;
  Binding binding;
};

// ROPE_DIMS is not among them: it needs head_dim and goes through parse_rope_dims.
std::vector<Field> fields(StoredModel* stored) {
  ModelConfig& model = stored->model;
  return {
      {"VOCAB_SIZE", bind::integer(&model.vocab_size, 1, 65'536)},
      {"NUM_LAYERS", bind::integer(&model.num_layers, 1, 1000)},
      {"MODEL_DIM", bind::integer(&model.model_dim, 1, 1 << 16)},
      {"NUM_HEADS", bind::integer(&model.num_heads, 1, 1 << 16)},
      {"NUM_KV_HEADS", bind::integer(&model.num_kv_heads, 1, 1 << 16)},
      {"MLP_MULT", bind::integer(&model.mlp_mult, 1, 1 << 10)},
      {"TIE_EMBEDDINGS", bind::boolean(&model.tie_embeddings)},
      {"LOGIT_SOFTCAP", bind::number(&model.logit_softcap, {.low = 0, .low_open = true})},
      {"ROPE_BASE", bind::number(&model.rope.base, {.low = 0, .low_open = true})},
      {"ROPE_TABLE_DTYPE",
       bind::choice(&model.rope.table_dtype, {{"float32", RopeTableDtype::float32}, {"bfloat16", RopeTableDtype::bfloat16}})},
      {"TRAIN_SEQ_LEN", bind::integer(&stored->train_seq_len, 1)},
  };
}

}  // namespace

ModelMetadata model_metadata(const ModelConfig& model, int train_seq_len) {
  StoredModel stored{model, train_seq_len};
  ModelMetadata metadata;
  // A binding's default text is the value of its field when it was bound.
  for (const auto& field : fields(&stored)) metadata[field.name] = field.binding.default_text;
  metadata["ROPE_DIMS"] = rope_dims_text(model.rope);
  return metadata;
}

StoredModel read_model_metadata(const ModelMetadata& metadata, const std::string& where) {
  const auto value_of = [&](const char* name) -> const std::string& {
    const auto found = metadata.find(name);
    if (found == metadata.end())
      throw Error(ExitCode::bad_input, format("%s: the stored configuration lacks %s", where.c_str(), name));
    return found->second;
  };
  StoredModel stored;
  for (const auto& field : fields(&stored)) {
    try {
      field.binding.assign(value_of(field.name));
    } catch (const Error& e) {
      throw Error(ExitCode::bad_input, format("%s: stored %s: %s", where.c_str(), field.name, e.what()));
    }
  }
  ModelConfig& model = stored.model;
  if (model.model_dim % model.num_heads != 0 || model.num_heads % model.num_kv_heads != 0 || model.head_dim() % 2 != 0) {
    throw Error(ExitCode::bad_input, where + ": the stored MODEL_DIM, NUM_HEADS and NUM_KV_HEADS do not fit together");
  }
  model.rope.head_dim = model.head_dim();
  std::string warning;
  try {
    model.rope.rope_dims = parse_rope_dims(value_of("ROPE_DIMS"), model.rope.head_dim, &warning);
  } catch (const Error& e) {
    throw Error(ExitCode::bad_input, format("%s: stored ROPE_DIMS: %s", where.c_str(), e.what()));
  }
  return stored;
}

}  // namespace pgolf
