// The safetensors format: an 8-byte header length, a JSON header, then the tensors' bytes without gaps.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "pgolf/artifact/raw_tensor.h"

namespace pgolf {

struct Safetensors {
  NamedTensors tensors;                         ///< in header order
  std::map<std::string, std::string> metadata;  ///< layout::metadata
};

/// By the header's length and first character.
bool starts_like_safetensors(BytesView file);

/// Throws Error(bad_input), naming name, unless the header is valid and the tensors fill the rest of the file exactly.
Safetensors parse_safetensors(BytesView file, const std::string& name);
Safetensors load_safetensors(const std::filesystem::path& path);

/// Writes atomically; equal content gives equal bytes. The header keeps the given order; the data is sorted by
/// descending element size, which keeps every tensor aligned. Names must be UTF-8 and unique.
void save_safetensors(const std::filesystem::path& path, const Safetensors& content);

/// A model's configuration as metadata: one entry layout::config, a JSON object of strings, next to "format": "pt", which other
/// programs expect. And back; empty if there is none. Error(bad_input) if the entry is not such an object.
std::map<std::string, std::string> safetensors_metadata(const std::map<std::string, std::string>& config);
std::map<std::string, std::string> safetensors_config(const std::map<std::string, std::string>& metadata,
                                                      const std::string& name);

}  // namespace pgolf
