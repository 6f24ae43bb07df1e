// Models as files: what train_gpt leaves of a run, and the same for a model that came from elsewhere.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pgolf/base/files.h"
#include "pgolf/config/model_metadata.h"
#include "pgolf/model_io/int8.h"

namespace pgolf {

/// What the suffix of a model file's name asks for: .pt, .ptz or .safetensors. Error(usage) for any other.
enum class ModelForm { torch, int8_zlib, safetensors };
ModelForm model_form(const std::filesystem::path& path);

/// A torch.save archive of the state dict, as torch.save(model.state_dict(), path) writes it. model decides about the module
/// paths in it. Empty metadata: nothing is stored about the model, as in the Python program's files.
Bytes torch_model(const StateDict& state, const ModelConfig& model, const ModelMetadata& metadata,
                  const std::filesystem::path& path);

/// The int8 artifact (int8.h) under zlib level 9.
Bytes int8_model(const StateDict& state, const ModelMetadata& metadata, const std::vector<std::string>& keep_float_patterns,
                 QuantStats* stats);

/// Writes the model in the form its path asks for. Atomic.
void write_model(const std::filesystem::path& path, const StateDict& state, const ModelConfig& model,
                 const ModelMetadata& metadata);

}  // namespace pgolf
