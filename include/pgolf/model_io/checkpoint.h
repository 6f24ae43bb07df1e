// Training checkpoints: everything a run needs to resume bit for bit.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "pgolf/artifact/safetensors.h"
#include "pgolf/model/state_dict.h"
#include "pgolf/run/training_state.h"

namespace pgolf {

/// A checkpoint is a safetensors file step_NNNNNNNN.safetensors whose metadata holds the state and a sha256 of all
/// tensor bytes. Tensors: layout::checkpoint_model + NAME, the optimizers' state, "generator".
void save_checkpoint(const std::filesystem::path& folder, const TrainingState& state, const StateDict& tensors);

struct Checkpoint {
  std::filesystem::path path;
  TrainingState state;
  StateDict tensors;
};

/// Reads and verifies one file, detected by content. Error(bad_input) if it is invalid or something else, such as a model.
Checkpoint load_checkpoint(const std::filesystem::path& path);

/// The same for a file that has been parsed; path is for messages and for the result.
Checkpoint read_checkpoint(const Safetensors& file, const std::filesystem::path& path);

/// The newest intact checkpoint of a folder; damaged ones are skipped with a warning. Empty if the folder has none;
/// Error(bad_input) if it has only damaged ones.
std::optional<Checkpoint> load_newest_checkpoint(const std::filesystem::path& folder);

/// Removes all but the newest keep_last checkpoints.
void prune_checkpoints(const std::filesystem::path& folder, int keep_last);

/// Checkpoint files of a folder, oldest first.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);

}  // namespace pgolf
