// A tensor as bytes, so that file readers and writers do not need LibTorch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pgolf/base/files.h"

namespace pgolf {

enum class DType : uint8_t { float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, boolean };

size_t dtype_size(DType dtype);
/// "float32", "bfloat16", "bool", ...: the name PyTorch prints after "torch.".
const char* dtype_name(DType dtype);

/// Contiguous, row-major, little-endian. bytes are shared and never changed after construction;
/// bytes->size() == numel() * dtype_size(dtype).
struct RawTensor {
  DType dtype = DType::float32;
  std::vector<int64_t> shape;
  std::shared_ptr<const Bytes> bytes;

  int64_t numel() const;
};

/// Whether LibTorch accepts this shape: at most 64 sizes, none negative, and a product of the non-zero ones whose bytes fit into
/// int64 (even for an empty tensor).
bool is_valid_shape(const std::vector<int64_t>& shape, DType dtype);

/// In insertion order, which files keep.
using NamedTensors = std::vector<std::pair<std::string, RawTensor>>;

}  // namespace pgolf
