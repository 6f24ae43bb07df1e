// The options of a block's shape, the same for every program that builds a model.
#pragma once

#include <vector>

#include "pgolf/config/options.h"
#include "pgolf/config/run_config.h"

namespace pgolf {

/// What ties the fields of a ModelConfig to their texts, in options and in stored models alike.
struct ShapeBindings {
  explicit ShapeBindings(ModelConfig* model);
  Binding mlp_kind, mlp_leaky_slope, norm_weights, unet_skips, resid_mix, parallel_block, logit_softcap;
};

/// Adds those that the names and sizes of a model's tensors do not show: MLP_KIND, MLP_LEAKY_SLOPE, PARALLEL_BLOCK,
/// LOGIT_SOFTCAP.
void add_activation_options(OptionTable& table, ModelConfig* model, Resume resume);

/// Error(usage) for an option that has no effect on this shape.
void check_shape(const ModelConfig& model, const std::vector<ResolvedOption>& options);

}  // namespace pgolf
