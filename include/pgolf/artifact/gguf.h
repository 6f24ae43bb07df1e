// The GGUF format, version 3: llama.cpp's files of metadata and tensors
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "pgolf/artifact/raw_tensor.h"

namespace pgolf {

using GgufValue = std::variant<uint32_t, float, bool, std::string, std::vector<std::string>, std::vector<float>,
                               std::vector<int32_t>, std::vector<uint8_t>>;

struct Gguf {
  std::vector<std::pair<std::string, GgufValue>> metadata;
  NamedTensors tensors;  ///< float32, float16 or bfloat16, of 1 to 4 dimensions
};

/// Atomic; equal content gives equal bytes. The file lists a tensor's dimensions last one first.
void save_gguf(const std::filesystem::path& path, const Gguf& content);

}  // namespace pgolf
