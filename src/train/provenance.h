// What a checkpoint was made with besides its settings, and what a resumed run may change of it.
#pragma once

#include <map>
#include <string>

#include "pgolf/model_io/checkpoint.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// Of the training shards: their number, their tokens, and fingerprints of the start of the first one and of that with this
/// index, the first again if there is none; of the validation shards, their tokens and the first one's fingerprint. So the data
/// is known again wherever it lies, without reading all of it.
std::map<std::string, std::string> data_identity(const DataConfig& data, int64_t shard);

/// What decides the bits of a step besides settings and data.
std::map<std::string, std::string> arithmetic_of(const Runtime& runtime);

/// For --resume. Error(usage) if the checkpoint was trained on other shards, unless other data is allowed, which is a warning; a
/// warning if the run's bits cannot be what they would have been. Checkpoints that do not say are accepted.
void check_provenance(const TrainingState& state, const std::string& path, const RunConfig& config, const Runtime& runtime);

}  // namespace pgolf
