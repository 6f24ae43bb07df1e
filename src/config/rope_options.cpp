#include "pgolf/config/rope_options.h"

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/parse.h"

namespace pgolf {
namespace {

/// f(), with the option's origin added to its error messages.
template <class F>
auto with_origin(const ResolvedOption& option, const F& f) {
  try {
    return f();
  } catch (const Error& e) {
    throw Error(e.code(), std::string(e.what()) + " (" + option.origin + ")", e.hint());
  }
}

}  // namespace

RopeRequest rope_request(const ModelConfig& model) {
  const int head_dim = model.head_dim();
  return {.dims = rope_dims_text(model.rope_dims.max(head_dim), head_dim), .layers = model.rope_dims.layers_text(head_dim)};
}

RopeDims rope_dims_of(const RopeRequest& request, const ModelConfig& shape, std::string* warning) {
  if (lower_case(trim(request.layers)) == "same") return parse_rope_dims(request.dims, shape.head_dim(), warning);
  return parse_rope_layers(request.layers, shape.head_dim(), shape.num_layers, warning);
}

void resolve_rope(const RopeRequest& request, ModelConfig* model, std::vector<ResolvedOption>* options,
                  std::vector<std::string>* warnings) {
  const RopeSettings& rope = model->rope;
  const int head_dim = model->head_dim();
  std::string warning;
  const auto warn = [&](const ResolvedOption& option) {
    if (!warning.empty()) warnings->push_back(warning + " (" + option.origin + ")");
  };

  ResolvedOption &dims = find_option(*options, "ROPE_DIMS"), &fraction = find_option(*options, "ROPE_FRACTION"),
                 &layers = find_option(*options, "ROPE_LAYERS");
  bool dims_given = dims.source != Source::default_value, fraction_given = request.fraction >= 0,
       layers_given = lower_case(trim(request.layers)) != "same";
  // Three ways to set the same thing: a value from a stronger source (such as a flag) overrides those of the others.
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
           "these options conflict: both set the rotated dimensions", "set only one of them, or ROPE_LAYERS=same");
  }

  model->rope_dims = {};
  if (layers_given) {
    model->rope_dims = with_origin(layers, [&] { return rope_dims_of(request, *model, &warning); });
    warn(layers);
    dims.origin = layers.origin;
    dims.replayable = false;  // would conflict with ROPE_LAYERS when read back
  }
  if (dims_given) {
    model->rope_dims = with_origin(dims, [&] { return parse_rope_dims(request.dims, head_dim, &warning); });
    warn(dims);
  }
  if (fraction_given) {
    const int from_fraction = rope_dims_of_fraction(request.fraction, head_dim);
    if (const int from_dims = model->rope_dims.max(head_dim); dims_given && from_fraction != from_dims) {
      refuse(*options, {"ROPE_FRACTION", "ROPE_DIMS"},
             format("the fraction gives %d of %d dims, ROPE_DIMS gives %d", from_fraction, head_dim, from_dims),
             "set only one of them");
    }
    model->rope_dims = from_fraction;
    if (!dims_given) dims.origin = fraction.origin;
  }
  const RopeRequest canonical = rope_request(*model);
  dims.text = canonical.dims;
  layers.text = canonical.layers;

  const ResolvedOption& factor = find_option(*options, "ROPE_SCALING_FACTOR");
  if (rope.scaling == RopeScaling::none && rope.scaling_factor != 1)
    refuse(*options, {"ROPE_SCALING_FACTOR", "ROPE_SCALING"}, "the factor has no effect without scaling", "set ROPE_SCALING");
  if (rope.scaling != RopeScaling::none && factor.source == Source::default_value)
    refuse(*options, {"ROPE_SCALING"}, "the scaling factor is missing",
           "set ROPE_SCALING_FACTOR, e.g. 2 for sequences of twice the length");
  if (rope.scaling != RopeScaling::yarn && rope.original_seq_len != 0)
    refuse(*options, {"ROPE_ORIGINAL_SEQ_LEN", "ROPE_SCALING"}, "only ROPE_SCALING=yarn uses the training length");
  for (int layer = 0; layer < model->num_layers; ++layer) {
    with_origin(find_option(*options, "ROPE_SCALING"), [&] {
      check_rope_scaling(model->rope_of(layer));
      return 0;
    });
  }
}

std::string rope_summary(const ModelConfig& model, const std::vector<ResolvedOption>& options) {
  const RopeSpec rope = model.widest_rope();
  const auto text = [&](const char* name) { return find_option(options, name).text; };
  std::string summary = describe_rope_dims(rope) + " from:" + find_option(options, "ROPE_DIMS").origin;
  if (text("ROPE_FRACTION") != "none") {
    summary +=
        format(" fraction:%s effective:%g", text("ROPE_FRACTION").c_str(), static_cast<double>(rope.rope_dims) / rope.head_dim);
  }
  if (text("ROPE_LAYERS") != "same") summary += " layers:" + text("ROPE_LAYERS");
  summary += " base:" + python_float(rope.base) + " table_dtype:" + text("ROPE_TABLE_DTYPE") + " style:" + text("ROPE_STYLE") +
             " select:" + text("ROPE_SELECT") + " scaling:" + text("ROPE_SCALING");
  if (rope.scaling != RopeScaling::none) summary += format(" factor:%g", rope.scaling_factor);
  return summary + " qk_norm:" + (model.qk_norm ? "on" : "off");
}

}  // namespace pgolf
