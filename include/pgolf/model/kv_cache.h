// Keys and values that a model keeps of the tokens it has seen, so that the next ones cost one position each.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace pgolf {

/// One text, or several of equal length that grow together: the batch. Empty at first; batch, dtype and device are those of the
/// first tokens. Copies share the tensors: do not go on with both.
class KvCache {
 public:
  /// capacity: positions it can hold at most, which also says how long the model's rotation tables get. Memory grows with what
  /// is held, in doubling steps.
  KvCache(int64_t num_layers, int64_t capacity);

  int64_t length() const { return length_; }  ///< positions held
  int64_t capacity() const { return capacity_; }
  int64_t bytes() const;  ///< of the tensors, room to grow included

  /// Forgets the positions from length on (0 <= length <= length()).
  void truncate(int64_t length);

  struct Entries {
    at::Tensor keys, values;  ///< [B, Hkv, T, D]: views of all positions held, new ones included
  };
  /// Adds a layer's keys and values of the next t positions, [B, Hkv, t, D]; t must fit. All layers are given the same t, then
  /// advance() is called.
  Entries append(int64_t layer, const at::Tensor& keys, const at::Tensor& values);
  void advance(int64_t t) { length_ += t; }

 private:
  std::vector<Entries> layers_;  ///< [B, Hkv, room, D]
  int64_t length_ = 0, capacity_;
};

}  // namespace pgolf
