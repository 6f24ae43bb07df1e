// Which runs are the same experiment. An arm is a set of runs that differ in the seed only.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pgolf/config/train_options.h"

namespace pgolf {

/// Effective rope_dims of every layer.
std::vector<int> rotated_lanes(const ModelConfig& model);
bool rotates_fully(const ModelConfig& model);
bool rotates_nowhere(const ModelConfig& model);

/// "16", "full", "none" or, where layers differ, "full*3,none".
std::string lanes_text(const ModelConfig& model);

/// How the heads of a model rotate, without what makes no difference: pairs are not selected when all of them rotate, and
/// nothing has a base or a style when none does. Equal texts: equal arithmetic.
std::string rotation_identity(const ModelConfig& model);

/// Settings that can change a run's results, name -> canonical text, the seed left out. The options that say how lanes
/// rotate (ROPE_DIMS, ROPE_FRACTION, ROPE_LAYERS, ROPE_STYLE, ROPE_SELECT) are one entry, "rotation", whose text begins with
/// lanes_text(); the others of that group are kept as they are. extra: names that count too (those a sweep varies on
/// purpose, such as NUM_THREADS).
using ArmSettings = std::map<std::string, std::string>;
inline constexpr const char* kRotation = "rotation";
ArmSettings arm_settings(const TrainCommand& command, const std::vector<std::string>& extra = {});

/// One text for settings and seed and rotation_identity(): runs with equal ones would do the same work twice. Defaults
/// are left out, so that the text outlives the arrival of further options.
std::string run_identity(const TrainCommand& command, const std::vector<std::string>& extra = {});

}  // namespace pgolf
