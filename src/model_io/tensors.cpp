#include "pgolf/model_io/tensors.h"

#include <torch/types.h>

#include <cstring>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"

namespace pgolf {
namespace {

constexpr std::pair<DType, at::ScalarType> dtype_pairs[] = {
    {DType::float64, at::kDouble}, {DType::float32, at::kFloat}, {DType::float16, at::kHalf}, {DType::bfloat16, at::kBFloat16},
    {DType::int64, at::kLong},     {DType::int32, at::kInt},     {DType::int16, at::kShort},  {DType::int8, at::kChar},
    {DType::uint8, at::kByte},     {DType::boolean, at::kBool},
};

}  // namespace

DType to_dtype(at::ScalarType type) {
  for (const auto& [dtype, scalar_type] : dtype_pairs) {
    if (scalar_type == type) return dtype;
  }
  throw Error(ExitCode::internal, format("tensors of type %s cannot be stored in files", at::toString(type)));
}

at::ScalarType to_scalar_type(DType dtype) {
  for (const auto& [candidate, scalar_type] : dtype_pairs) {
    if (candidate == dtype) return scalar_type;
  }
  throw Error(ExitCode::internal, "unknown dtype");
}

RawTensor to_raw(const at::Tensor& tensor) {
  const auto host = tensor.detach().to(at::kCPU).contiguous();
  auto bytes = std::make_shared<Bytes>(host.nbytes());
  if (!bytes->empty()) std::memcpy(bytes->data(), host.data_ptr(), bytes->size());
  return {to_dtype(host.scalar_type()), host.sizes().vec(), std::move(bytes)};
}

at::Tensor to_tensor(const RawTensor& raw) {
  auto tensor = at::empty(raw.shape, at::TensorOptions().dtype(to_scalar_type(raw.dtype)));
  if (!raw.bytes->empty()) std::memcpy(tensor.data_ptr(), raw.bytes->data(), raw.bytes->size());
  return tensor;
}

std::string sha256_hex(const at::Tensor& tensor) {
  return sha256_hex(*to_raw(tensor).bytes);
}

}  // namespace pgolf
