// Files of torch.save: read into a Value, written byte for byte as PyTorch 2.11 writes them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/artifact/value.h"

namespace pgolf {

/// name is for messages. Throws Error(bad_input) for anything but a valid torch.save archive of what pickle.h accepts.
Value load_torch(BytesView archive, const std::string& name);
Value load_torch_file(const std::filesystem::path& path);

/// top_folder: PyTorch uses "archive" when it saves to memory and the file's name without its last extension when it
/// saves to a path. Throws Error(bad_input) at 4 GiB or more.
Bytes save_torch(const Value& value, std::string_view top_folder = "archive");

/// The tensors of a state dict (a dict of nothing but tensors), in its order. name is for messages.
NamedTensors as_named_tensors(const Value& state_dict, const std::string& name);

/// A state dict as module.state_dict() returns it: an OrderedDict whose "_metadata" lists version 1 for every module.
/// module_paths: in the order of named_modules(), the root "" first. A non-empty config becomes an extra
/// attribute, layout::config; torch.load(weights_only=True) and load_state_dict(strict=True) ignore it.
Value state_dict_value(const NamedTensors& tensors, const std::vector<std::string>& module_paths,
                       const std::map<std::string, std::string>& config);

/// The configuration of a state dict; empty if there is none, as in upstream's files.
std::map<std::string, std::string> state_dict_config(const Value& state_dict, const std::string& name);

}  // namespace pgolf
