// A model file out of its container, whatever the file is called.
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
  size_t unpacked_bytes = 0;  ///< of the torch.save archive within a codec's stream; otherwise file_bytes
  std::variant<Value, Safetensors> content;

  bool is_checkpoint() const { return format.container == Container::checkpoint; }
};

/// Told apart by content: a torch.save archive, one in a codec's stream, or safetensors, where the metadata "format" of a
/// training checkpoint says so. Error(bad_input) in one line for all else, saying what it is as far as its first bytes tell.
/// Memory: a few times the file's size; a stream may unpack to 64 times its size, or to 256 MiB if that is more.
ModelContainer parse_model_container(BytesView file, const std::string& name);
ModelContainer open_model_container(const std::filesystem::path& path);

/// What first bytes that belong to no model file known here are: "xz-compressed", "a Git LFS pointer", ...; empty if nobody can
/// tell (Brotli, for one, has no mark).
std::string describe_foreign(BytesView file);

}  // namespace pgolf
