#include "pgolf/artifact/raw_tensor.h"

namespace pgolf {
namespace {

struct DTypeInfo {
  size_t size;
  const char* name;
};

// In enum order.
constexpr DTypeInfo dtypes[] = {{8, "float64"}, {4, "float32"}, {2, "float16"}, {2, "bfloat16"}, {8, "int64"},
                                {4, "int32"},   {2, "int16"},   {1, "int8"},    {1, "uint8"},    {1, "bool"}};

}  // namespace

size_t dtype_size(DType dtype) {
  return dtypes[static_cast<size_t>(dtype)].size;
}
const char* dtype_name(DType dtype) {
  return dtypes[static_cast<size_t>(dtype)].name;
}

bool is_valid_shape(const std::vector<int64_t>& shape, DType dtype) {
  constexpr size_t max_dimensions = 64;  // LibTorch's own limit
  if (shape.size() > max_dimensions) return false;
  auto bytes = static_cast<int64_t>(dtype_size(dtype));
  for (const int64_t extent : shape) {
    if (extent < 0 || (extent > 0 && __builtin_mul_overflow(bytes, extent, &bytes))) return false;
  }
  return true;
}

int64_t RawTensor::numel() const {
  int64_t n = 1;
  for (const int64_t extent : shape) n *= extent;
  return n;
}

}  // namespace pgolf
