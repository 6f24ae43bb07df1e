// Opens the container of a model file, independent of the file's name.
#pragma once

#include <filesystem>
#include <string>
#include <variant>

#include "pgolf/artifact/model_format.h"
#include "pgolf/artifact/safetensors.h"
#include "pgolf/artifact/value.h"

namespace pgolf {

struct ModelContainer {
  ModelFormat format;
  size_t file_bytes = 0;
  size_t unpacked_bytes = 0;  ///< of what is in a compressed stream; otherwise file_bytes
  std::variant<Value, Safetensors> content;

  bool is_checkpoint() const { return format.container == Container::checkpoint; }
};

/// Detected by content: a torch.save archive or safetensors, where the metadata "format" marks a training checkpoint, either of
/// them possibly compressed. Error(bad_input) in one line for anything else, naming its kind if the first bytes tell.
/// Memory: a few times the file size; a stream may unpack to 64 times its size, or to 256 MiB if that is more.
ModelContainer parse_model_container(BytesView file, const std::string& name);
ModelContainer open_model_container(const std::filesystem::path& path);

}  // namespace pgolf
