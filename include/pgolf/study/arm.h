// Which runs are the same experiment. An arm is a set of runs that differ only in the seed.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pgolf/config/train_options.h"

namespace pgolf {

/// Effective rope_dims of every layer.
std::vector<int> layer_rope_dims(const ModelConfig& model);
bool rotates_fully(const ModelConfig& model);
bool rotates_nowhere(const ModelConfig& model);

/// "16", "full", "none" or, where layers differ, "full*3,none".
std::string layer_rope_dims_text(const ModelConfig& model);

/// How the heads of a model rotate, without settings that have no effect: the selection when all pairs rotate, base and style
/// when none does. Equal texts: equal arithmetic.
std::string rotation_identity(const ModelConfig& model);

/// Settings that can change a run's results, name -> canonical text, without the seed. The options that choose the rotated
/// dims (ROPE_DIMS, ROPE_FRACTION, ROPE_LAYERS, ROPE_STYLE, ROPE_SELECT) are one entry, "rotation", whose text begins with
/// layer_rope_dims_text(); the others of that group are kept as they are. extra: further names to include (those a sweep
/// varies, such as NUM_THREADS).
using ArmSettings = std::map<std::string, std::string>;
inline constexpr const char* kRotation = "rotation";
ArmSettings arm_settings(const TrainCommand& command, const std::vector<std::string>& extra = {});

/// train_gpt's default for an option.
const std::string& default_text(const std::string& option);

/// Text of settings, seed and rotation_identity(): runs with equal texts do the same work. Defaults are left out, so that new
/// options do not change it.
std::string run_identity(const TrainCommand& command, const std::vector<std::string>& extra = {});

}  // namespace pgolf
