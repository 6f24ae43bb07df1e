// What a stored model must say about itself so that a reader can rebuild it: the configuration beside the weights.
#pragma once

#include <map>
#include <string>

#include "pgolf/config/run_config.h"

namespace pgolf {

/// Option name -> canonical text, e.g. {"ROPE_DIMS", "16"}.
using ModelMetadata = std::map<std::string, std::string>;

/// The architecture, the rope specification (effective rope_dims) and the sequence length of the training.
ModelMetadata model_metadata(const ModelConfig& model, int train_seq_len);

struct StoredModel {
  ModelConfig model;
  int train_seq_len = 1024;
};

/// The inverse. where names the file for messages; Error(bad_input) for a missing or unreadable value.
StoredModel read_model_metadata(const ModelMetadata& metadata, const std::string& where);

}  // namespace pgolf
