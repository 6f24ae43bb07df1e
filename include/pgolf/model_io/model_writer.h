// Writes model files: the results of a train_gpt run, and models from other sources in the same formats.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pgolf/base/files.h"
#include "pgolf/config/model_metadata.h"
#include "pgolf/model_io/quantizer.h"

namespace pgolf {

/// The format for a file suffix: .pt, .safetensors, or .ptz for an int8 artifact. Error(usage) for any other.
ModelFormat model_format(const std::filesystem::path& path, Codec codec = Codec::zlib);

/// A torch.save archive of the state dict, as torch.save(model.state_dict(), path) writes it. model determines the module
/// paths in it. Empty metadata: no configuration is stored, as in upstream's files.
Bytes torch_model(const StateDict& state, const ModelConfig& model, const ModelMetadata& metadata,
                  const std::filesystem::path& path);

struct Artifact {
  Bytes file;
  size_t unpacked_bytes = 0;  ///< before the codec
};
Artifact make_artifact(const QuantizedModel& model, const ModelMetadata& metadata, const ArtifactFormat& made = {});

/// Writes the model in the format of the path's suffix. Atomic.
void write_model(const std::filesystem::path& path, const StateDict& state, const ModelConfig& model,
                 const ModelMetadata& metadata, Codec codec = Codec::zlib);

}  // namespace pgolf
