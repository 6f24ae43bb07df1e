// Checks a file's tensors against the parameters of its model, before the model is built.
#pragma once

#include <string>

#include "pgolf/config/run_config.h"
#include "pgolf/model/state_dict.h"

namespace pgolf {

/// Sorts the tensors into the order of the model's state_dict(). Error(bad_input), naming where (a file), if any is missing,
/// unknown, duplicated or of the wrong shape, so that the model built afterwards needs no more memory than the file has weights.
StateDict in_model_order(StateDict state, const ModelConfig& model, const std::string& where);

/// The names found in place of a missing tensor, for messages about models of other kinds: the name parts that follow the longest
/// prefix that any name shares with it, "blocks.0.mlp.: gate_up, proj" or "tok_emb, prelude and 3 more".
std::string describe_found_names(const StateDict& state, const std::string& missing);

}  // namespace pgolf
