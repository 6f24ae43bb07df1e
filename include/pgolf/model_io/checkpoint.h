// Training checkpoints: everything a run needs to resume bit for bit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/artifact/safetensors.h"
#include "pgolf/config/micro_steps.h"
#include "pgolf/model/state_dict.h"

namespace pgolf {

/// The state besides tensors.
struct TrainingState {
  int64_t step = 0;
  double training_time_ms = 0;
  int64_t loader_file = 0;        ///< the loader's cursor, as a rule the training stream's shard ...
  int64_t loader_position = 0;    ///< ... and the next token in it
  int micro_steps = kMicroSteps;  ///< that the stream was divided into, per step
  int extra_passes = 0;           ///< over looped blocks, in the last step
  double best_val_loss = 0;       ///< lowest so far; 0 = none measured yet
  int64_t best_step = 0;
  std::map<std::string, std::string> config;      ///< option name -> canonical text of the run that saved it
  std::map<std::string, std::string> model;       ///< ModelMetadata
  std::map<std::string, std::string> data;        ///< what tells its training shards from others; empty in files that do not say
  std::map<std::string, std::string> arithmetic;  ///< what decides a step's bits besides settings and data; may be empty
};

/// As JSON, and back. Error(bad_input) naming where.
std::string training_state_text(const TrainingState& state);
TrainingState parse_training_state(const std::string& text, const std::string& where);

/// A checkpoint is a safetensors file step_NNNNNNNN.safetensors whose metadata holds the state above and a sha256 of all
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
