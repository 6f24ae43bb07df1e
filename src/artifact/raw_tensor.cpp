#include "pgolf/artifact/raw_tensor.h"

namespace pgolf {
namespace {

struct DTypeInfo {
  size_t size;
  const char* name;
};

// In the order of the enumeration.
constexpr DTypeInfo dtypes[] = {{8, "float64"}, {4, "float32"}, {2, "float16"}, {2, "bfloat16"}, {8, "int64"},
                                {4, "int32"},   {2, "int16"},   {1, "int8"},    {1, "uint8"},    {1, "bool"}};

}  // namespace

size_t dtype_size(DType dtype) {
  return dtypes[static_cast<size_t>(dtype)].size;
}
const char* dtype_name(DType dtype) {
  return dtypes[static_cast<size_t>(dtype)].name;
}

int64_t RawTensor::numel() const {
  int64_t n = 1;
  for (const int64_t extent : shape) n *= extent;
  return n;
}

}  // namespace pgolf
