// Models as files: what train_gpt leaves of a run, and the same for a model that came from elsewhere.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pgolf/base/files.h"
#include "pgolf/config/model_metadata.h"
#include "pgolf/model_io/quantizer.h"

namespace pgolf {

/// What the suffix of a model file's name asks for: .pt, .safetensors, or an artifact under the codec that has the suffix (.ptz).
/// Error(usage) for any other.
ModelFormat model_format(const std::filesystem::path& path);

/// A torch.save archive of the state dict, as torch.save(model.state_dict(), path) writes it. model decides about the module
/// paths in it. Empty metadata: nothing is stored about the model, as in the Python program's files.
Bytes torch_model(const StateDict& state, const ModelConfig& model, const ModelMetadata& metadata,
                  const std::filesystem::path& path);

struct Artifact {
  Bytes file;
  size_t unpacked_bytes = 0;  ///< before the codec
  QuantStats stats;
};
Artifact make_artifact(const StateDict& state, const ModelMetadata& metadata, const std::vector<std::string>& keep_float_patterns,
                       const ArtifactFormat& made = {});

/// Writes the model in the form its path asks for. Atomic.
void write_model(const std::filesystem::path& path, const StateDict& state, const ModelConfig& model,
                 const ModelMetadata& metadata);

}  // namespace pgolf
