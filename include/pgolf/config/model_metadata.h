// What a stored model must say about itself so that a reader can rebuild it: the configuration beside the weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pgolf/config/model_options.h"

namespace pgolf {

/// Option name -> canonical text, e.g. {"ROPE_DIMS", "16"}.
using ModelMetadata = std::map<std::string, std::string>;

struct StoredModel {
  ModelConfig model;
  int train_seq_len = 1024;
};

/// The one option of a training that is stored with its model: TRAIN_SEQ_LEN.
ModelOption train_seq_len_option(int* train_seq_len);

/// The architecture, the rope specification (effective rope_dims) and the sequence length of the training.
ModelMetadata model_metadata(const ModelConfig& model, int train_seq_len);

/// The inverse. where names the file for messages; Error(bad_input) for a missing or unreadable value.
StoredModel read_model_metadata(const ModelMetadata& metadata, const std::string& where);

/// Of a model of which only what its tensors show is known: fills in the rest, and lists it as "NAME=value".
std::vector<std::string> assume_unsaid(StoredModel* stored);

}  // namespace pgolf
