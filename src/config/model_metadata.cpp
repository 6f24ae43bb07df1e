#include "pgolf/config/model_metadata.h"

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/config/rope_options.h"
#include "pgolf/config/shape_options.h"

namespace pgolf {
namespace {

struct Field {
  const char* name;
  Binding binding;
  bool optional = false;  ///< files of before the option exist; they have its default
};

// ROPE_DIMS and ROPE_LAYERS are not among them: they need head_dim.
std::vector<Field> fields(StoredModel* stored) {
  ModelConfig& model = stored->model;
  const RopeBindings rope(&model.rope);
  const ShapeBindings shape(&model);
  return {
      {"VOCAB_SIZE", bind::integer(&model.vocab_size, 1, 65'536)},
      {"NUM_LAYERS", bind::integer(&model.num_layers, 1, 1000)},
      {"MODEL_DIM", bind::integer(&model.model_dim, 1, 1 << 16)},
      {"NUM_HEADS", bind::integer(&model.num_heads, 1, 1 << 16)},
      {"NUM_KV_HEADS", bind::integer(&model.num_kv_heads, 1, 1 << 16)},
      {"MLP_MULT", bind::integer(&model.mlp_mult, 1, 1 << 10)},
      {"TIE_EMBEDDINGS", bind::boolean(&model.tie_embeddings)},
      {"LOGIT_SOFTCAP", shape.logit_softcap},
      {"ROPE_BASE", rope.base},
      {"ROPE_TABLE_DTYPE", rope.table_dtype},
      {"TRAIN_SEQ_LEN", bind::integer(&stored->train_seq_len, 1, 1 << 24)},
      {"ROPE_STYLE", rope.style, true},
      {"ROPE_SELECT", rope.select, true},
      {"ROPE_SCALING", rope.scaling, true},
      {"ROPE_SCALING_FACTOR", rope.scaling_factor, true},
      {"ROPE_ORIGINAL_SEQ_LEN", rope.original_seq_len, true},
      {"QK_NORM", bind::boolean(&model.qk_norm), true},
      {"PARALLEL_BLOCK", shape.parallel_block, true},
      {"MLP_KIND", shape.mlp_kind, true},
      {"MLP_LEAKY_SLOPE", shape.mlp_leaky_slope, true},
      {"NORM_WEIGHTS", shape.norm_weights, true},
      {"UNET_SKIPS", shape.unet_skips, true},
      {"RESID_MIX", shape.resid_mix, true},
  };
}

}  // namespace

ModelMetadata model_metadata(const ModelConfig& model, int train_seq_len) {
  StoredModel stored{model, train_seq_len};
  ModelMetadata metadata;
  // A binding's default text is the value of its field when it was bound.
  for (const auto& field : fields(&stored)) metadata[field.name] = field.binding.default_text;
  metadata["ROPE_DIMS"] = rope_dims_text(model.rope.rope_dims, model.rope.head_dim);
  metadata["ROPE_LAYERS"] = model.rope_layers.empty() ? "same" : rope_layers_text(model.rope_layers, model.rope.head_dim);
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
    if (field.optional && metadata.count(field.name) == 0) continue;
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
  const auto layers = metadata.find("ROPE_LAYERS");
  if (layers != metadata.end() && layers->second != "same") {
    try {
      model.rope_layers = parse_rope_layers(layers->second, model.rope.head_dim, model.num_layers, &warning);
    } catch (const Error& e) {
      throw Error(ExitCode::bad_input, format("%s: stored %s", where.c_str(), e.what()));
    }
  }
  return stored;
}

}  // namespace pgolf
