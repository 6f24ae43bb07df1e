// Any file or folder that holds a model -> its weights and architecture.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pgolf/artifact/model_format.h"
#include "pgolf/config/model_metadata.h"
#include "pgolf/model/gpt.h"

namespace pgolf {

struct ModelFile {
  std::filesystem::path path;  ///< the file that was read
  ModelFormat format;
  StateDict state;         ///< in the order of state_dict()
  ModelMetadata metadata;  ///< as stored; empty in files that do not say it
  StoredModel stored;
  std::vector<std::string> overrides;  ///< "NAME=value" of what is evaluated otherwise than trained, on purpose
  std::vector<std::string> assumed;    ///< "NAME=value" for what the file does not say and upstream's default filled in
};

/// The file that stands for a run folder: its final_model.int8.ptz, else final_model.pt, else its newest checkpoint. Any other
/// path is itself. Error(bad_input) for a folder without any of them.
std::filesystem::path model_path(const std::filesystem::path& given);

/// Reads a run folder, an int8 artifact (.ptz), a state dict of torch.save (.pt; ours or the Python program's), a safetensors
/// file of a model or a training checkpoint; content decides, not the name. The architecture comes from the stored
/// configuration, or from names and shapes where there is none, and the tensors are those it needs. Error(bad_input) in one line
/// for anything else.
ModelFile read_model_file(const std::filesystem::path& path);

/// A model with those weights in evaluation mode, parameters in the dtypes of the compute dtype.
Gpt build_model(const ModelFile& file, at::ScalarType compute, OpsPath path, const at::Device& device);

}  // namespace pgolf
