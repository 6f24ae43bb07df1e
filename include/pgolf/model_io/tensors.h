// Conversion between LibTorch tensors and RawTensor bytes.
#pragma once

#include <ATen/core/Tensor.h>

#include "pgolf/artifact/raw_tensor.h"

namespace pgolf {

/// Copies to the host and makes contiguous.
RawTensor to_raw(const at::Tensor& tensor);

/// A host tensor with its own memory.
at::Tensor to_tensor(const RawTensor& raw);

DType to_dtype(at::ScalarType type);
at::ScalarType to_scalar_type(DType dtype);

/// sha256 over the raw little-endian bytes, row-major.
std::string sha256_hex(const at::Tensor& tensor);

}  // namespace pgolf
