// The tensors of a pickle: views of storages, which are outside of it.
#pragma once

#include <unordered_map>

#include "pgolf/artifact/pickle.h"
#include "pickle_input.h"

namespace pgolf {

struct Storage {
  DType dtype;
  std::shared_ptr<const Bytes> bytes;

  int64_t numel() const { return static_cast<int64_t>(bytes->size() / dtype_size(dtype)); }
};

class PickleTensors {
 public:
  /// Both must outlive the object; input is for messages.
  PickleTensors(const PickleInput& input, const StorageSource& source) : input_(input), source_(source) {}

  /// Reads the storage the first time. Fails if it is not of that dtype and length.
  const Storage& storage(const std::string& key, DType dtype, int64_t numel);

  /// Fails unless all elements are within the storage and no two are the same. Shares the storage's bytes if it covers them in
  /// order, and otherwise copies.
  RawTensor view(const Storage& storage, int64_t offset, const std::vector<int64_t>& shape, const std::vector<int64_t>& strides);

  /// To be called for each further use of a tensor. Readers copy the values once per use, so without a limit a small file could
  /// claim any amount of memory.
  void count(size_t bytes);

 private:
  const PickleInput& input_;
  const StorageSource& source_;
  size_t storage_bytes_ = 0, tensor_bytes_ = 0;
  std::unordered_map<std::string, Storage> storages_;
};

}  // namespace pgolf
