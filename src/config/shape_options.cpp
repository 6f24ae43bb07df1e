#include "pgolf/config/shape_options.h"

namespace pgolf {

ShapeBindings::ShapeBindings(ModelConfig* model)
    : mlp_kind(bind::choice<MlpKind>(&model->mlp_kind, {{"relu2", MlpKind::relu2},
                                                        {"relu3", MlpKind::relu3},
                                                        {"leaky_relu", MlpKind::leaky_relu},
                                                        {"leaky_relu2", MlpKind::leaky_relu2},
                                                        {"gelu", MlpKind::gelu},
                                                        {"swiglu", MlpKind::swiglu}})),
      mlp_leaky_slope(bind::number(&model->mlp_leaky_slope, {})),
      norm_weights(bind::boolean(&model->norm_weights)),
      unet_skips(bind::boolean(&model->unet_skips)),
      resid_mix(bind::boolean(&model->resid_mix)),
      parallel_block(bind::boolean(&model->parallel_block)),
      logit_softcap(bind::number(&model->logit_softcap, {.low = 0})) {}

void add_activation_options(OptionTable& table, ModelConfig* model, Resume resume) {
  const ShapeBindings shape(model);
  table.add("MLP_KIND", shape.mlp_kind, "",
            "Of the hidden layer u: max(u, 0) squared or cubed, leaky ReLU or its square, GELU, or silu(gate) * u, which takes a "
            "third matrix.",
            resume);
  table.add("MLP_LEAKY_SLOPE", shape.mlp_leaky_slope, "", "Below zero, of the leaky MLP_KINDs.", resume);
  table.add("PARALLEL_BLOCK", shape.parallel_block, "", "Attention and MLP of a block read the same normalised input.", resume);
  table.add("LOGIT_SOFTCAP", shape.logit_softcap, "", "Logits become cap * tanh(logits / cap); 0 = as they are.", resume);
}

void check_shape(const ModelConfig& model, const std::vector<ResolvedOption>& options) {
  if (!leaky(model.mlp_kind) && model.mlp_leaky_slope != ModelConfig().mlp_leaky_slope)
    refuse(options, {"MLP_LEAKY_SLOPE", "MLP_KIND"}, "this kind has no slope", "say MLP_KIND=leaky_relu or leaky_relu2");
}

}  // namespace pgolf
