// The options of rotary embedding, the same for every program that builds a model.
#pragma once

#include <string>
#include <vector>

#include "pgolf/config/options.h"
#include "pgolf/config/run_config.h"

namespace pgolf {

/// Option values that can be resolved only once head_dim and the number of layers are known.
struct RopeRequest {
  std::string dims = "full";
  double fraction = -1;  ///< < 0: not given
  std::string layers = "same";
};

/// The request that describes a model, as canonical text.
RopeRequest rope_request(const ModelConfig& model);

/// Resolves a request's dims and layers for a model of this shape. *warning and Error(usage) as for parse_rope_dims and
/// parse_rope_layers.
RopeDims rope_dims_of(const RopeRequest& request, const ModelConfig& shape, std::string* warning);

/// Sets model's rope_dims from the request; its shape must be known. ROPE_DIMS, ROPE_FRACTION and ROPE_LAYERS set the same
/// thing: the one from the strongest source counts. Their texts become canonical.
/// Error(usage) naming the option and its origin for invalid values and for conflicting options.
void resolve_rope(const RopeRequest& request, ModelConfig* model, std::vector<ResolvedOption>* options,
                  std::vector<std::string>* warnings);

/// "16 of 64 dims from:flag --rope-dims base:10000.0 ...": everything that determines how the heads rotate.
std::string rope_summary(const ModelConfig& model, const std::vector<ResolvedOption>& options);

}  // namespace pgolf
