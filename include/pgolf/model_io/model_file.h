// Loads weights and architecture from any model file or run folder.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
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
  ModelMetadata metadata;  ///< as stored; empty if the file has none
  StoredModel stored;
  int extra_passes = -1;               ///< of a training checkpoint: over looped blocks, in the last step; -1: all
  std::vector<std::string> overrides;  ///< "NAME=value" of settings changed for evaluation on purpose
  std::vector<std::string> assumed;    ///< "NAME=value" of upstream's defaults used for what the file does not contain
  std::string unwrapped;               ///< 'the weights at "model", without the prefix "_orig_mod."'; empty if nothing was
  std::map<std::string, std::string> stored_names;  ///< of tensors in the file, as list_contents() gives them, where they differ
};

/// The model file of a run folder: its artifact, else final_model.pt, else its newest checkpoint. Any other
/// path is returned as is. Error(bad_input) for a folder without any of them.
std::filesystem::path model_path(const std::filesystem::path& given);

/// May change `stored` and `assumed` of a file whose configuration is known, before its tensors are compared with it.
using Adjust = std::function<void(ModelFile&)>;

/// Reads a run folder, an artifact (.ptz; ours, upstream's or a record program's), a state dict of torch.save (.pt; ours or
/// upstream's), a safetensors file of a model or a training checkpoint; detected by content, not by name. The architecture comes
/// from the stored configuration, or from names and shapes where there is none, and the tensors must match it. Error(bad_input)
/// in one line for anything else.
/// A state dict may be in other dicts, next to what a trainer saves with it, as long as there is only one model, and its names
/// may share any prefix and contain "_orig_mod." and the like.
ModelFile read_model_file(const std::filesystem::path& path, const Adjust& adjust = nullptr);

/// A model with those weights in evaluation mode, with parameter dtypes for the compute dtype.
Gpt build_model(const ModelFile& file, at::ScalarType compute, OpsPath path, const at::Device& device);

}  // namespace pgolf
