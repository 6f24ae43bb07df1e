// Whether a file's tensors are those of the model it is said, or taken, to hold: known before a model is built.
#pragma once

#include <string>

#include "pgolf/config/run_config.h"
#include "pgolf/model/state_dict.h"

namespace pgolf {

/// Brings the tensors into the order of the model's state_dict(). Error(bad_input), naming where (a file), if any is missing,
/// unknown, there twice or of another shape: a model that is built afterwards needs no more memory than the file has weights.
StateDict in_model_order(StateDict state, const ModelConfig& model, const std::string& where);

/// What there is instead of a tensor of this name, for messages about models of other kinds: the parts that follow the longest
/// beginning that some names share with it, "blocks.0.mlp.: gate_up, proj" or "tok_emb, prelude and 3 more".
std::string names_instead(const StateDict& state, const std::string& missing);

}  // namespace pgolf
