#include "pgolf/config/model_options.h"

#include <algorithm>

#include "pgolf/base/text.h"
#include "pgolf/config/layer_list.h"
#include "pgolf/config/parameters.h"

namespace pgolf {
namespace {

constexpr int kMaxDim = 65'536;

std::vector<ModelOption> size_options(ModelConfig* model) {
  using bind::integer;
  return {
      {.name = "VOCAB_SIZE",
       .value = integer(&model->vocab_size, 1, 65'536),
       .unit = "tokens",
       .help = "Vocabulary size; must match the tokenizer.",
       .stored = Stored::always,
       .inferable = true},
      {.name = "NUM_LAYERS",
       .value = integer(&model->num_layers, 1, kMaxLayers),
       .unit = "blocks",
       .help = "Transformer blocks; the first half is the encoder of a U-Net.",
       .stored = Stored::always,
       .inferable = true},
      {.name = "MODEL_DIM",
       .value = integer(&model->model_dim, 2, kMaxDim),
       .unit = "dims",
       .help = "Width of the residual stream.",
       .stored = Stored::always,
       .inferable = true},
      {.name = "NUM_HEADS",
       .value = integer(&model->num_heads, 1, kMaxDim),
       .unit = "heads",
       .help = "Query heads; must divide MODEL_DIM.",
       .stored = Stored::always,
       .inferable = true},
      {.name = "NUM_KV_HEADS",
       .value = integer(&model->num_kv_heads, 1, kMaxDim),
       .unit = "heads",
       .help = "Key/value heads; must divide NUM_HEADS.",
       .stored = Stored::always,
       .inferable = true},
      {.name = "MLP_MULT",
       .value = bind::short_number(&model->mlp_mult, {.low = 0, .high = 256, .low_open = true}),
       .help = "Hidden width of the MLP as a multiple of MODEL_DIM, rounded down to whole units.",
       .stored = Stored::always,
       .inferable = true,
       .in_files = bind::short_number(&model->mlp_mult, {.low = 0, .high = kMaxMlpMult, .low_open = true})},
      {.name = "TIE_EMBEDDINGS",
       .value = bind::boolean(&model->tie_embeddings),
       .help = "Use the token embedding as the output head.",
       .stored = Stored::always,
       .inferable = true},
  };
}

std::vector<ModelOption> init_options(ModelConfig* model) {
  return {
      {.name = "TIED_EMBED_INIT_STD",
       .value = bind::number(&model->tied_embed_init_std, {.low = 0}),
       .help = "Standard deviation of the initial token embedding, if tied.",
       .stored = Stored::never},
      {.name = "QK_GAIN_INIT",
       .value = bind::number(&model->qk_gain_init, {}),
       .help = "Initial gain of each query head.",
       .stored = Stored::never},
      {.name = "INIT_STD",
       .value = bind::number_or_none(&model->init_std, {.low = 0, .low_open = true}),
       .help =
           "Standard deviation of all initial matrices and embeddings. none: as in upstream's train_gpt.py, where projections "
           "start at zero.",
       .stored = Stored::never,
       .places = {.log = 7}},
      {.name = "ORTHOGONAL_INIT",
       .value = bind::boolean(&model->orthogonal_init),
       .help = "Start block matrices with at least 64 rows and columns as orthogonal matrices; projections still start at zero.",
       .stored = Stored::never},
  };
}

std::vector<ModelOption> loop_options(ModelConfig* model) {
  return {
      {.name = "NUM_LOOPS",
       .value = bind::integer(&model->num_loops, 0, 64),
       .unit = "passes",
       .help = "Extra passes over the blocks from LOOP_START to LOOP_END, with the same weights. The first half of all passes is "
               "the encoder of the U-Net.",
       .stored = Stored::if_not_default,
       .default_in_files = "0",
       .places = {.assumed = 14}},
      {.name = "LOOP_START",
       .value = bind::integer(&model->loop_start, -1, kMaxLayers - 1),
       .unit = "block",
       .help = "First looped block, counted from 0. -1: not set.",
       .stored = Stored::if_not_default,
       .default_in_files = "-1"},
      {.name = "LOOP_END",
       .value = bind::integer(&model->loop_end, -1, kMaxLayers - 1),
       .unit = "block",
       .help = "Last looped block, counted from 0. -1: not set.",
       .stored = Stored::if_not_default,
       .default_in_files = "-1"},
  };
}

std::vector<ModelOption> block_options(ModelConfig* model) {
  return {
      {.name = "MLP_KIND",
       .value = bind::choice(&model->mlp_kind),
       .help = "Activation of the MLP: ReLU squared or cubed, leaky ReLU or its square, GELU, or SwiGLU, silu(gate) * u with a "
               "third matrix.",
       .default_in_files = "relu2",
       .inferable_if = [](const ModelConfig& shape) { return shape.mlp_kind == MlpKind::swiglu; },
       .places = {.assumed = 6, .log = 1}},
      {.name = "MLP_LEAKY_SLOPE",
       .value = bind::number(&model->mlp_leaky_slope, {}),
       .help = "Slope below zero of leaky_relu and leaky_relu2.",
       .default_in_files = "0.5"},
      {.name = "PARALLEL_BLOCK",
       .value = bind::boolean(&model->parallel_block),
       .help = "Attention and MLP of a block read the same normalized input.",
       .default_in_files = "0",
       .inferable_if = [](const ModelConfig& shape) { return shape.norm_weights; },
       .places = {.assumed = 7, .log = 2, .sweep = 8}},
      {.name = "PARALLEL_RESIDUAL_START",
       .value = bind::integer(&model->parallel_residual_start, -1, kMaxLayers),
       .unit = "block",
       .help = "PARALLEL_BLOCK for the blocks from this one on, counted from 0. -1: none.",
       .stored = Stored::if_not_default,
       .default_in_files = "-1",
       .inferable_if = [](const ModelConfig& shape) { return shape.norm_weights; }},
      {.name = "ATTENTION_WINDOW",
       .value = bind::layer_integers(&model->attention_window, "full", kMaxSeqLen),
       .unit = "tokens",
       .help = "Sliding window: the last positions that attention sees, its own included, per layer and repeated to fill all "
               "layers: 64*3,full. full: all.",
       .stored = Stored::if_not_default,
       .default_in_files = "full",
       .places = {.assumed = 15, .sweep = 9}},
      {.name = "XSA_LAST_N",
       .value = bind::integer(&model->xsa_last_n, 0, kMaxLayers),
       .unit = "blocks",
       .help =
           "Exclusive self-attention in this many last blocks: what a head returns has no component along the value of its own "
           "position.",
       .stored = Stored::if_not_default,
       .default_in_files = "0",
       .places = {.assumed = 13}},
      {.name = "LN_SCALE",
       .value = bind::boolean(&model->ln_scale),
       .help = "Multiply the norms of block i, counted from 0, by 1/sqrt(i + 1).",
       .stored = Stored::if_not_default,
       .default_in_files = "0",
       .places = {.assumed = 12}},
      {.name = "LOGIT_SOFTCAP",
       .value = bind::number(&model->logit_softcap, {.low = 0}),
       .help = "Soft cap on the logits: cap * tanh(logits / cap); 0 = off.",
       .stored = Stored::always,
       .default_in_files = "30.0",
       .places = {.assumed = 2, .log = 6}},
      {.name = "NORM_WEIGHTS",
       .value = bind::boolean(&model->norm_weights),
       .help = "Learned per-channel factor after the norms of blocks and output head.",
       .default_in_files = "0",
       .shown_by = parameter_name::in_block(0, parameter_name::attn_norm),
       .places = {.log = 3}},
      {.name = "UNET_SKIPS",
       .value = bind::boolean(&model->unet_skips),
       .help = "Skip connections from the first half of the blocks to the second.",
       .default_in_files = "1",
       .shown_by = parameter_name::skip_weights,
       .places = {.log = 4}},
      {.name = "SKIP_GATES_ENABLED",
       .value = bind::boolean(&model->skip_gates),
       .help =
           "Interpolate between a skip connection and the residual stream, with a learned gate per channel, instead of adding.",
       .stored = Stored::if_not_default,
       .default_in_files = "0",
       .shown_by = parameter_name::skip_gates},
      {.name = "RESID_MIX",
       .value = bind::boolean(&model->resid_mix),
       .help = "Each block starts with a learned mix of its input and the token embedding.",
       .default_in_files = "1",
       .shown_by = parameter_name::in_block(0, parameter_name::resid_mix),
       .places = {.log = 5}},
  };
}

std::vector<ModelOption> token_options(ModelConfig* model) {
  return {
      {.name = "SMEAR_GATE",
       .value = bind::boolean(&model->smear_gate),
       .help = "Mix each normalized embedding with that of the position before, with a learned gate per channel.",
       .stored = Stored::if_not_default,
       .default_in_files = "0",
       .shown_by = parameter_name::smear_gate},
      {.name = "BIGRAM_VOCAB_SIZE",
       .value = bind::integer(&model->bigram_vocab_size, 0, 1 << 24),
       .unit = "rows",
       .help =
           "Rows of a table that is added to the embedding, looked up by a hash of each token and the one before it. 0: none.",
       .stored = Stored::if_not_default,
       .default_in_files = "0",
       .inferable = true},
      {.name = "BIGRAM_DIM",
       .value = bind::integer(&model->bigram_dim, 1, kMaxDim),
       .unit = "dims",
       .help = "Width of that table; projected to MODEL_DIM if it is another.",
       .stored = Stored::if_not_default,
       .default_in_files = "128",
       .inferable = true},
      {.name = "VE_LAYERS",
       .value = bind::integers(&model->ve_layers, 0, kMaxLayers - 1),
       .unit = "blocks",
       .help = "Blocks, counted from 0, where attention's values get an embedding of the token, from a table that they share.",
       .stored = Stored::if_not_default},
      {.name = "VE_DIM",
       .value = bind::integer(&model->ve_dim, 1, kMaxDim),
       .unit = "dims",
       .help = "Width of that table; projected to the width of the values if it is another.",
       .stored = Stored::if_not_default,
       .default_in_files = "128",
       .inferable = true},
  };
}

void append(std::vector<ModelOption>& options, std::vector<ModelOption> more) {
  std::move(more.begin(), more.end(), std::back_inserter(options));
}

}  // namespace

std::vector<ModelOption> shape_options(ModelConfig* model) {
  std::vector<ModelOption> options = size_options(model);
  append(options, init_options(model));
  append(options, block_options(model));
  append(options, loop_options(model));
  append(options, token_options(model));
  return options;
}

std::vector<ModelOption> rotary_options(ModelConfig* model, RopeRequest* request) {
  RopeSettings& rope = model->rope;
  Binding dims = bind::text(&request->dims);
  dims.type = "dims";
  dims.range = "full (or 0), none, or an even number from 2 to head_dim";
  return {
      {.name = "ROPE_DIMS",
       .value = dims,
       .help = "Dimensions of each query and key head to rotate; the others pass through.",
       .stored = Stored::always,
       .default_in_files = "full",
       .places = {.assumed = 3}},
      {.name = "ROPE_FRACTION",
       .value = bind::number_or_none(&request->fraction, {.low = 0, .high = 1}),
       .help = "ROPE_DIMS as a fraction of head_dim, rounded to the nearest even number, at least 2; 0 = none, not full.",
       .stored = Stored::as_another_option},
      {.name = "ROPE_LAYERS",
       .value = bind::text(&request->layers),
       .help = "ROPE_DIMS per layer, repeated to fill all layers: 16*8,full or full*3,none. same: one value for all.",
       .default_in_files = "same",
       .places = {.sweep = 4}},
      {.name = "ROPE_BASE",
       .value = bind::number(&rope.base, {.low = 0, .low_open = true}),
       .help = "Dimension pair i rotates by base^(-2i/ROPE_DIMS) per position (base^(-2i/head_dim) unless ROPE_SELECT=prefix).",
       .stored = Stored::always,
       .default_in_files = "10000.0",
       .places = {.assumed = 4, .sweep = 1}},
      {.name = "ROPE_STYLE",
       .value = bind::choice(&rope.style),
       .help = "How n dimensions are paired. half: i with i + n/2 (GPT-NeoX); interleaved: 2i with 2i + 1 (GPT-J).",
       .default_in_files = "half",
       .places = {.assumed = 9, .sweep = 3}},
      {.name = "ROPE_SELECT",
       .value = bind::choice(&rope.select),
       .help =
           "Which pairs rotate. prefix: the first ROPE_DIMS dimensions; high, low, uniform: the head's fastest (p-RoPE), slowest "
           "or evenly spaced pairs.",
       .default_in_files = "prefix",
       .places = {.assumed = 10, .sweep = 2}},
      {.name = "ROPE_SCALING",
       .value = bind::choice(&rope.scaling),
       .help = "Context extension beyond the training length; never implied by a sequence length.",
       .default_in_files = "none",
       .places = {.assumed = 11, .sweep = 5}},
      {.name = "ROPE_SCALING_FACTOR",
       .value = bind::number(&rope.scaling_factor, {.low = 1}),
       .help = "Context extension factor of ROPE_SCALING.",
       .default_in_files = "1.0",
       .places = {.sweep = 6}},
      {.name = "ROPE_ORIGINAL_SEQ_LEN",
       .value = bind::integer(&rope.original_seq_len, 0, kMaxSeqLen),
       .unit = "tokens",
       .help = "Sequence length in training, for ROPE_SCALING=yarn.",
       .default_in_files = "0"},
      {.name = "ROPE_TABLE_DTYPE",
       .value = bind::choice(&rope.table_dtype),
       .help = "Dtype of angles and cos/sin tables; bfloat16 reproduces the rounding of upstream's train_gpt.py.",
       .stored = Stored::always,
       .default_in_files = "float32",
       .places = {.assumed = 5}},
      {.name = "KEY_OFFSET",
       .value = bind::boolean(&model->key_offset),
       .help = "Take the dimensions of each key that do not rotate from the position before.",
       .stored = Stored::if_not_default,
       .default_in_files = "0",
       .places = {.assumed = 16, .sweep = 10}},
      {.name = "QK_NORM",
       .value = bind::boolean(&model->qk_norm),
       .help = "RMSNorm of each query and key head before rotation.",
       .default_in_files = "1",
       .places = {.assumed = 8, .sweep = 7}},
  };
}

std::vector<std::string> listed_options(int ListPlaces::*list) {
  ModelConfig model;
  RopeRequest request;
  std::vector<ModelOption> options = shape_options(&model);
  append(options, rotary_options(&model, &request));
  std::erase_if(options, [&](const ModelOption& option) { return option.places.*list == 0; });
  std::sort(options.begin(), options.end(),
            [&](const ModelOption& a, const ModelOption& b) { return a.places.*list < b.places.*list; });
  std::vector<std::string> names;
  for (const auto& option : options) names.push_back(option.name);
  return names;
}

std::string shape_summary(const std::vector<ResolvedOption>& options) {
  std::vector<std::string> parts;
  for (const auto& name : listed_options(&ListPlaces::log)) parts.push_back(name + "=" + find_option(options, name).text);
  ModelConfig model;
  for (const auto& option : shape_options(&model)) {
    const std::string& text = find_option(options, option.name).text;
    if (option.stored == Stored::if_not_default && option.goes_into_files(text)) parts.push_back(option.name + "=" + text);
  }
  return join(parts, " ");
}

}  // namespace pgolf
