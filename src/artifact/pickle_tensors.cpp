#include "pickle_tensors.h"

#include <algorithm>
#include <cstring>

#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

// Views must be copied. A few views per byte are plausible, thousands are an attack.
constexpr size_t max_copies_of_storage = 4;

/// The elements of a view in row-major order.
std::shared_ptr<const Bytes> gather(const Storage& storage, int64_t offset, const std::vector<int64_t>& shape,
                                    const std::vector<int64_t>& strides, int64_t numel) {
  const size_t size = dtype_size(storage.dtype);
  auto out = std::make_shared<Bytes>();
  out->resize(static_cast<size_t>(numel) * size);
  std::vector<int64_t> index(shape.size(), 0);
  int64_t from = offset;
  for (int64_t to = 0; to < numel; ++to) {
    std::memcpy(out->data() + static_cast<size_t>(to) * size, storage.bytes->data() + static_cast<size_t>(from) * size, size);
    for (size_t i = shape.size(); i-- > 0;) {
      if (shape[i] == 1) continue;  // its stride is arbitrary
      from += strides[i];
      if (++index[i] < shape[i]) break;
      from -= shape[i] * strides[i];
      index[i] = 0;
    }
  }
  return out;
}

}  // namespace

const Storage& PickleTensors::storage(const std::string& key, DType dtype, int64_t numel) {
  const auto [place, is_new] = storages_.try_emplace(key);
  Storage& storage = place->second;
  if (is_new) {
    storage = {dtype, source_(key)};
    storage_bytes_ += storage.bytes->size();
  }
  if (storage.dtype != dtype || storage.bytes->size() % dtype_size(dtype) != 0 || numel != storage.numel()) {
    input_.fail(format("declares storage \"%s\" with %lld elements of %s, but its record has %zu bytes", printable(key).c_str(),
                       static_cast<long long>(numel), dtype_name(dtype), storage.bytes->size()));
  }
  return storage;
}

RawTensor PickleTensors::view(const Storage& storage, int64_t offset, const std::vector<int64_t>& shape,
                              const std::vector<int64_t>& strides) {
  if (shape.size() != strides.size()) input_.fail("has a tensor with different numbers of sizes and strides");
  if (!is_valid_shape(shape, storage.dtype)) input_.fail("has a tensor whose size overflows");

  // last: position of the last element. Everything is bounded by the storage's size at each step, so nothing overflows.
  const int64_t available = storage.numel();
  const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
  int64_t numel = empty ? 0 : 1, last = offset;
  bool contiguous = true;
  for (size_t i = shape.size(); i-- > 0 && !empty;) {
    if (shape[i] == 1) continue;
    contiguous = contiguous && strides[i] == numel;
    int64_t step = 0;
    if (__builtin_mul_overflow(numel, shape[i], &numel) || __builtin_mul_overflow(shape[i] - 1, strides[i], &step) ||
        __builtin_add_overflow(last, step, &last) || last >= available) {
      input_.fail("has a tensor that reaches beyond its storage");
    }
    if (numel > available) input_.fail("has a tensor whose elements share memory (an expanded view)");
  }
  if (offset > available || (!empty && last >= available)) input_.fail("has a tensor that reaches beyond its storage");
  count(static_cast<size_t>(numel) * dtype_size(storage.dtype));
  if (contiguous && numel == available) return {storage.dtype, shape, storage.bytes};
  return {storage.dtype, shape, gather(storage, offset, shape, strides, numel)};
}

void PickleTensors::count(size_t bytes) {
  tensor_bytes_ += bytes;
  if (tensor_bytes_ > max_copies_of_storage * storage_bytes_) input_.fail("has too many overlapping views of the same storages");
}

}  // namespace pgolf
