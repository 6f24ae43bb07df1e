#include "pgolf/config/model_options.h"

#include <algorithm>

#include "pgolf/base/text.h"

namespace pgolf {
namespace {

constexpr int kMaxDim = 65'536;

std::vector<ModelOption> size_options(ModelConfig* model) {
  using bind::integer;
  return {
      {.name = "VOCAB_SIZE",
       .value = integer(&model->vocab_size, 1, 65'536),
       .unit = "pieces",
       .help = "Must equal the tokenizer's.",
       .stored = Stored::always,
       .shown = true},
      {.name = "NUM_LAYERS",
       .value = integer(&model->num_layers, 1, 1024),
       .unit = "blocks",
       .help = "The first half are the encoder of a U-Net.",
       .stored = Stored::always,
       .shown = true},
      {.name = "MODEL_DIM",
       .value = integer(&model->model_dim, 2, kMaxDim),
       .unit = "lanes",
       .help = "Width of the residual stream.",
       .stored = Stored::always,
       .shown = true},
      {.name = "NUM_HEADS",
       .value = integer(&model->num_heads, 1, kMaxDim),
       .unit = "heads",
       .help = "Query heads; must divide MODEL_DIM.",
       .stored = Stored::always,
       .shown = true},
      {.name = "NUM_KV_HEADS",
       .value = integer(&model->num_kv_heads, 1, kMaxDim),
       .unit = "heads",
       .help = "Key and value heads; must divide NUM_HEADS.",
       .stored = Stored::always,
       .shown = true},
      {.name = "MLP_MULT",
       .value = integer(&model->mlp_mult, 1, 256),
       .help = "Hidden width of the MLP over MODEL_DIM.",
       .stored = Stored::always,
       .shown = true,
       .in_files = integer(&model->mlp_mult, 1, 1024)},
      {.name = "TIE_EMBEDDINGS",
       .value = bind::boolean(&model->tie_embeddings),
       .help = "The token embedding is the output head too.",
       .stored = Stored::always,
       .shown = true},
  };
}

std::vector<ModelOption> init_options(ModelConfig* model) {
  return {
      {.name = "TIED_EMBED_INIT_STD",
       .value = bind::number(&model->tied_embed_init_std, {.low = 0}),
       .help = "Standard deviation of the initial embedding when tied.",
       .stored = Stored::never},
      {.name = "QK_GAIN_INIT",
       .value = bind::number(&model->qk_gain_init, {}),
       .help = "Initial gain of every query head.",
       .stored = Stored::never},
      {.name = "INIT_STD",
       .value = bind::number_or_none(&model->init_std, {.low = 0, .low_open = true}),
       .help = "Standard deviation of all initial matrices and embeddings. none: the Python program's way, in which projections "
               "begin at zero.",
       .stored = Stored::never,
       .places = {.log = 7}},
  };
}

std::vector<ModelOption> block_options(ModelConfig* model) {
  return {
      {.name = "MLP_KIND",
       .value = bind::choice(&model->mlp_kind),
       .help = "Of the hidden layer u: max(u, 0) squared or cubed, leaky ReLU or its square, GELU, or silu(gate) * u, which "
               "takes a third matrix.",
       .unsaid = "relu2",
       .shown_by = [](const ModelConfig& shape) { return shape.mlp_kind == MlpKind::swiglu; },
       .places = {.assumed = 6, .log = 1}},
      {.name = "MLP_LEAKY_SLOPE",
       .value = bind::number(&model->mlp_leaky_slope, {}),
       .help = "Below zero, of the leaky MLP_KINDs.",
       .unsaid = "0.5"},
      {.name = "PARALLEL_BLOCK",
       .value = bind::boolean(&model->parallel_block),
       .help = "Attention and MLP of a block read the same normalised input.",
       .unsaid = "0",
       .shown_by = [](const ModelConfig& shape) { return shape.norm_weights; },
       .places = {.assumed = 7, .log = 2, .sweep = 8}},
      {.name = "LOGIT_SOFTCAP",
       .value = bind::number(&model->logit_softcap, {.low = 0}),
       .help = "Logits become cap * tanh(logits / cap); 0 = as they are.",
       .stored = Stored::always,
       .unsaid = "30.0",
       .places = {.assumed = 2, .log = 6}},
      {.name = "NORM_WEIGHTS",
       .value = bind::boolean(&model->norm_weights),
       .help = "A learned factor per lane after the norms of blocks and output head.",
       .unsaid = "0",
       .shown = true,
       .places = {.log = 3}},
      {.name = "UNET_SKIPS",
       .value = bind::boolean(&model->unet_skips),
       .help = "Skip connections from the first half of the blocks to the second.",
       .unsaid = "1",
       .shown = true,
       .places = {.log = 4}},
      {.name = "RESID_MIX",
       .value = bind::boolean(&model->resid_mix),
       .help = "Every block begins with a learned mix of its input and the token embedding.",
       .unsaid = "1",
       .shown = true,
       .places = {.log = 5}},
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
  return options;
}

std::vector<ModelOption> rotary_options(ModelConfig* model, RopeRequest* request) {
  RopeSettings& rope = model->rope;
  Binding dims = bind::text(&request->dims);
  dims.type = "lanes";
  dims.range = "full (or 0), none, or even from 2 to head_dim";
  return {
      {.name = "ROPE_DIMS",
       .value = dims,
       .help = "Lanes of every query and key head that rotate; the others pass through.",
       .stored = Stored::always,
       .unsaid = "full",
       .places = {.assumed = 3}},
      {.name = "ROPE_FRACTION",
       .value = bind::number_or_none(&request->fraction, {.low = 0, .high = 1}),
       .help = "ROPE_DIMS as a part of head_dim: the nearest even number, at least 2 above 0. 0 is none, not full.",
       .stored = Stored::in_other_words},
      {.name = "ROPE_LAYERS",
       .value = bind::text(&request->layers),
       .help = "ROPE_DIMS per layer, repeated until all have one: 16*8,full or full*3,none. same: all alike.",
       .unsaid = "same",
       .places = {.sweep = 4}},
      {.name = "ROPE_BASE",
       .value = bind::number(&rope.base, {.low = 0, .low_open = true}),
       .help = "Lane pair i turns by base^(-2i/ROPE_DIMS) per position (other ROPE_SELECT than prefix: -2i/head_dim).",
       .stored = Stored::always,
       .unsaid = "10000.0",
       .places = {.assumed = 4, .sweep = 1}},
      {.name = "ROPE_STYLE",
       .value = bind::choice(&rope.style),
       .help = "Which lanes make a pair: i and i + half of them, or 2i and 2i+1.",
       .unsaid = "half",
       .places = {.assumed = 9, .sweep = 3}},
      {.name = "ROPE_SELECT",
       .value = bind::choice(&rope.select),
       .help = "Which pairs rotate: all of the first ROPE_DIMS lanes, or the head's fastest (p-RoPE), slowest, evenly spaced.",
       .unsaid = "prefix",
       .places = {.assumed = 10, .sweep = 2}},
      {.name = "ROPE_SCALING",
       .value = bind::choice(&rope.scaling),
       .help = "For windows longer than those of the training; never implied by a length.",
       .unsaid = "none",
       .places = {.assumed = 11, .sweep = 5}},
      {.name = "ROPE_SCALING_FACTOR",
       .value = bind::number(&rope.scaling_factor, {.low = 1}),
       .help = "By how much ROPE_SCALING stretches.",
       .unsaid = "1.0",
       .places = {.sweep = 6}},
      {.name = "ROPE_ORIGINAL_SEQ_LEN",
       .value = bind::integer(&rope.original_seq_len, 0, 1 << 24),
       .unit = "tokens",
       .help = "Length of the training, for ROPE_SCALING=yarn.",
       .unsaid = "0"},
      {.name = "ROPE_TABLE_DTYPE",
       .value = bind::choice(&rope.table_dtype),
       .help = "Of angles and tables; bfloat16 reproduces the Python program's rounding.",
       .stored = Stored::always,
       .unsaid = "float32",
       .places = {.assumed = 5}},
      {.name = "QK_NORM",
       .value = bind::boolean(&model->qk_norm),
       .help = "rms_norm of every query and key head before it rotates.",
       .unsaid = "1",
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
  return join(parts, " ");
}

void check_shape(const ModelConfig& model, const std::vector<ResolvedOption>& options) {
  if (!leaky(model.mlp_kind) && model.mlp_leaky_slope != ModelConfig().mlp_leaky_slope)
    refuse(options, {"MLP_LEAKY_SLOPE", "MLP_KIND"}, "this kind has no slope", "say MLP_KIND=leaky_relu or leaky_relu2");
}

}  // namespace pgolf
