// What a training checkpoint holds besides tensors.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "pgolf/config/micro_steps.h"

namespace pgolf {

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

}  // namespace pgolf
