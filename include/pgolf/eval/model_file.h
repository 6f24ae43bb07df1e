// Any file or folder that holds a model -> its weights and architecture.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pgolf/config/model_metadata.h"
#include "pgolf/model/gpt.h"

namespace pgolf {

struct ModelFile {
  std::filesystem::path path;  ///< the file that was read
  std::string format;          ///< "int8+zlib", "torch", "training checkpoint"
  StateDict state;
  StoredModel stored;
  std::vector<std::string> assumed;  ///< "NAME=value" for what the file does not say and upstream's default filled in
};

/// Reads a run folder (its final_model.int8.ptz, else final_model.pt, else its newest checkpoint), a *.ptz artifact, a
/// *.pt state dict (ours or the Python program's), or a training checkpoint. The architecture comes from the stored
/// configuration, or from names and shapes where there is none. Error(bad_input) in one line for anything else.
ModelFile read_model_file(const std::filesystem::path& path);

/// A model with those weights in evaluation mode, parameters in the dtypes of the compute dtype.
Gpt build_model(const ModelFile& file, at::ScalarType compute, OpsPath path, const at::Device& device);

}  // namespace pgolf
