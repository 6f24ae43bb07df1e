#include "pgolf/config/rope_options.h"

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/parse.h"

namespace pgolf {
namespace {

/// f() with the option's origin in what it refuses.
template <class F>
auto with_origin(const ResolvedOption& option, const F& f) {
  try {
    return f();
  } catch (const Error& e) {
    throw Error(e.code(), std::string(e.what()) + " (" + option.origin + ")", e.hint());
  }
}

}  // namespace

RopeBindings::RopeBindings(RopeSpec* rope)
    : base(bind::number(&rope->base, {.low = 0, .low_open = true})),
      style(bind::choice<RopeStyle>(&rope->style, {{"half", RopeStyle::half}, {"interleaved", RopeStyle::interleaved}})),
      select(bind::choice<RopeSelect>(&rope->select, {{"prefix", RopeSelect::prefix},
                                                      {"high", RopeSelect::high},
                                                      {"low", RopeSelect::low},
                                                      {"uniform", RopeSelect::uniform}})),
      scaling(bind::choice<RopeScaling>(&rope->scaling, {{"none", RopeScaling::none},
                                                         {"linear", RopeScaling::linear},
                                                         {"ntk", RopeScaling::ntk},
                                                         {"yarn", RopeScaling::yarn}})),
      scaling_factor(bind::number(&rope->scaling_factor, {.low = 1})),
      original_seq_len(bind::integer(&rope->original_seq_len, 0, 1 << 24)),
      table_dtype(bind::choice<RopeTableDtype>(&rope->table_dtype,
                                               {{"float32", RopeTableDtype::float32}, {"bfloat16", RopeTableDtype::bfloat16}})) {}

void add_rope_options(OptionTable& table, ModelConfig* model, RopeRequest* request, Resume resume) {
  const RopeBindings rope(&model->rope);
  Binding dims = bind::text(&request->dims);
  dims.type = "lanes";
  dims.range = "full (or 0), none, or even from 2 to head_dim";
  table.add("ROPE_DIMS", dims, "", "Lanes of every query and key head that rotate; the others pass through.", resume);
  table.add("ROPE_FRACTION", bind::number_or_none(&request->fraction, {.low = 0, .high = 1}), "",
            "ROPE_DIMS as a part of head_dim: the nearest even number, at least 2 above 0. 0 is none, not full.", resume);
  table.add("ROPE_LAYERS", bind::text(&request->layers), "",
            "ROPE_DIMS per layer, repeated until all have one: 16*8,full or full*3,none. same: all alike.", resume);
  table.add("ROPE_BASE", rope.base, "",
            "Lane pair i turns by base^(-2i/ROPE_DIMS) per position (other ROPE_SELECT than prefix: -2i/head_dim).", resume);
  table.add("ROPE_STYLE", rope.style, "", "Which lanes make a pair: i and i + half of them, or 2i and 2i+1.", resume);
  table.add("ROPE_SELECT", rope.select, "",
            "Which pairs rotate: all of the first ROPE_DIMS lanes, or the head's fastest (p-RoPE), slowest, evenly spaced.",
            resume);
  table.add("ROPE_SCALING", rope.scaling, "", "For windows longer than those of the training; never implied by a length.",
            resume);
  table.add("ROPE_SCALING_FACTOR", rope.scaling_factor, "", "By how much ROPE_SCALING stretches.", resume);
  table.add("ROPE_ORIGINAL_SEQ_LEN", rope.original_seq_len, "tokens", "Length of the training, for ROPE_SCALING=yarn.", resume);
  table.add("ROPE_TABLE_DTYPE", rope.table_dtype, "", "Of angles and tables; bfloat16 reproduces the Python program's rounding.",
            resume);
  table.add("QK_NORM", bind::boolean(&model->qk_norm), "", "rms_norm of every query and key head before it rotates.", resume);
}

void resolve_rope(const RopeRequest& request, ModelConfig* model, std::vector<ResolvedOption>* options,
                  std::vector<std::string>* warnings) {
  RopeSpec& rope = model->rope;
  rope.head_dim = model->head_dim();
  std::string warning;
  const auto warn = [&](const ResolvedOption& option) {
    if (!warning.empty()) warnings->push_back(warning + " (" + option.origin + ")");
  };

  ResolvedOption &dims = find_option(*options, "ROPE_DIMS"), &fraction = find_option(*options, "ROPE_FRACTION"),
                 &layers = find_option(*options, "ROPE_LAYERS");
  bool dims_given = dims.source != Source::default_value, fraction_given = request.fraction >= 0,
       layers_given = lower_case(trim(request.layers)) != "same";
  // Three ways to say one thing: what comes from a stronger source (a flag, say) makes the others' values void.
  auto strongest = Source::default_value;
  if (dims_given) strongest = std::max(strongest, dims.source);
  if (fraction_given) strongest = std::max(strongest, fraction.source);
  if (layers_given) strongest = std::max(strongest, layers.source);
  dims_given = dims_given && dims.source == strongest;
  fraction_given = fraction_given && fraction.source == strongest;
  layers_given = layers_given && layers.source == strongest;
  if (!fraction_given) fraction.text = "none";
  if (layers_given && (dims_given || fraction_given)) {
    refuse(*options, {"ROPE_LAYERS", dims_given ? "ROPE_DIMS" : "ROPE_FRACTION"},
           "these are two ways to say the same and contradict each other", "leave one out, or say ROPE_LAYERS=same");
  }

  model->rope_layers.clear();
  rope.rope_dims = rope.head_dim;
  if (layers_given) {
    model->rope_layers =
        with_origin(layers, [&] { return parse_rope_layers(request.layers, rope.head_dim, model->num_layers, &warning); });
    warn(layers);
    rope.rope_dims = *std::max_element(model->rope_layers.begin(), model->rope_layers.end());
    dims.origin = layers.origin;
    dims.replayable = false;  // beside ROPE_LAYERS a contradiction when read back
  }
  if (dims_given) {
    rope.rope_dims = with_origin(dims, [&] { return parse_rope_dims(request.dims, rope.head_dim, &warning); });
    warn(dims);
  }
  if (fraction_given) {
    const int lanes = rope_dims_of_fraction(request.fraction, rope.head_dim);
    if (dims_given && lanes != rope.rope_dims) {
      refuse(*options, {"ROPE_FRACTION", "ROPE_DIMS"},
             format("the fraction is %d of %d lanes, the number is %d", lanes, rope.head_dim, rope.rope_dims),
             "give one of them");
    }
    rope.rope_dims = lanes;
    if (!dims_given) dims.origin = fraction.origin;
  }
  dims.text = rope_dims_text(rope.rope_dims, rope.head_dim);
  layers.text = layers_given ? rope_layers_text(model->rope_layers, rope.head_dim) : "same";

  const ResolvedOption& factor = find_option(*options, "ROPE_SCALING_FACTOR");
  if (rope.scaling == RopeScaling::none && rope.scaling_factor != 1)
    refuse(*options, {"ROPE_SCALING_FACTOR", "ROPE_SCALING"}, "nothing is scaled", "say which ROPE_SCALING");
  if (rope.scaling != RopeScaling::none && factor.source == Source::default_value)
    refuse(*options, {"ROPE_SCALING"}, "by how much is not said", "give ROPE_SCALING_FACTOR, 2 for windows of twice the length");
  if (rope.scaling != RopeScaling::yarn && rope.original_seq_len != 0)
    refuse(*options, {"ROPE_ORIGINAL_SEQ_LEN", "ROPE_SCALING"}, "only yarn asks for the length of the training");
  for (int layer = 0; layer < model->num_layers; ++layer) {
    with_origin(find_option(*options, "ROPE_SCALING"), [&] {
      check_rope_scaling(model->rope_of(layer));
      return 0;
    });
  }
}

std::string rope_summary(const ModelConfig& model, const std::vector<ResolvedOption>& options) {
  const RopeSpec& rope = model.rope;
  const auto text = [&](const char* name) { return find_option(options, name).text; };
  std::string summary = describe_rope_dims(rope) + " from:" + find_option(options, "ROPE_DIMS").origin;
  if (text("ROPE_FRACTION") != "none") {
    summary +=
        format(" fraction:%s effective:%g", text("ROPE_FRACTION").c_str(), static_cast<double>(rope.rope_dims) / rope.head_dim);
  }
  if (!model.rope_layers.empty()) summary += " layers:" + text("ROPE_LAYERS");
  summary += " base:" + python_float(rope.base) + " table_dtype:" + text("ROPE_TABLE_DTYPE") + " style:" + text("ROPE_STYLE") +
             " select:" + text("ROPE_SELECT") + " scaling:" + text("ROPE_SCALING");
  if (rope.scaling != RopeScaling::none) summary += format(" factor:%g", rope.scaling_factor);
  return summary + " qk_norm:" + (model.qk_norm ? "on" : "off");
}

}  // namespace pgolf
