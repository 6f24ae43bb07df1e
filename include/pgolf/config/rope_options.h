// The options of rotary embedding, the same for every program that builds a model.
#pragma once

#include <string>
#include <vector>

#include "pgolf/config/options.h"
#include "pgolf/config/run_config.h"

namespace pgolf {

/// Texts and numbers that can be understood only when head_dim and the number of layers are known.
struct RopeRequest {
  std::string dims = "full";
  double fraction = -1;  ///< < 0: not given
  std::string layers = "same";
};

/// What ties the fields of a RopeSpec to their texts, in options and in stored models alike.
struct RopeBindings {
  explicit RopeBindings(RopeSpec* rope);
  Binding base, style, select, scaling, scaling_factor, original_seq_len, table_dtype;
};

/// Adds ROPE_DIMS and its relatives and QK_NORM to the table's present group.
void add_rope_options(OptionTable& table, ModelConfig* model, RopeRequest* request, Resume resume);

/// Sets model's RopeSpec from the request; model's shape must be known. ROPE_DIMS, ROPE_FRACTION and ROPE_LAYERS say the same
/// thing: the one from the strongest source counts. Their texts become canonical.
/// Error(usage) naming the option and its origin for what is illegal, and for options that contradict each other.
void resolve_rope(const RopeRequest& request, ModelConfig* model, std::vector<ResolvedOption>* options,
                  std::vector<std::string>* warnings);

/// "16 of 64 lanes from:flag --rope-dims base:10000.0 ...": everything that decides how the heads rotate.
std::string rope_summary(const ModelConfig& model, const std::vector<ResolvedOption>& options);

}  // namespace pgolf
