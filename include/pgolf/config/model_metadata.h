// The configuration stored with a model's weights, from which a reader rebuilds the model.
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
  std::string tokenizer;  ///< fingerprint of the pieces that it was trained on (data/tokenizer.h); empty if unknown
};

/// TRAIN_SEQ_LEN, the only training option that is stored with the model.
ModelOption train_seq_len_option(int* train_seq_len);

/// The architecture, the rope specification (effective rope_dims) and the sequence length in training.
ModelMetadata model_metadata(const ModelConfig& model, int train_seq_len);

/// What a new file stores: of that all but the options that files without them imply, and the tokenizer if it is known, under
/// layout::tokenizer.
ModelMetadata metadata_for_file(const StoredModel& stored);

/// The inverse of both. where names the file for messages; Error(bad_input) for a missing or unreadable value.
StoredModel read_model_metadata(const ModelMetadata& metadata, const std::string& where);

/// For a model known only from its tensors: sets all options that cannot be inferred from them to their defaults, and lists them
/// as "NAME=value".
std::vector<std::string> assume_defaults(StoredModel* stored);

}  // namespace pgolf
