// Cached keys and values of the tokens seen so far, so that each new token costs one position; and the tokens themselves, for
// models that look at those before the new ones.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace pgolf {

/// Holds one text, or a batch of texts of equal length that grow together. Starts empty; batch, dtype and device are those of the
/// first tokens. Copies share the tensors: append to only one of them.
class KvCache {
 public:
  /// passes: through blocks, per text; a block that runs several times has several. capacity: maximum number of positions, also
  /// the length of the model's rotation tables. Memory grows with the positions held, by doubling.
  KvCache(int64_t passes, int64_t capacity);

  int64_t length() const { return length_; }  ///< positions held
  int64_t capacity() const { return capacity_; }
  int64_t passes() const { return static_cast<int64_t>(passes_.size()); }
  int64_t bytes() const;  ///< of the tensors, spare capacity included

  /// Drops the positions from `length` on (0 <= length <= length()).
  void truncate(int64_t length);

  struct Entries {
    at::Tensor keys, values;  ///< [B, Hkv, T, D]: views of all positions held, new ones included
  };
  /// Appends a pass's keys and values of the next t positions, [B, Hkv, t, D]; t must fit. Call it for every pass with the same
  /// t, then call advance().
  Entries append(int64_t pass, const at::Tensor& keys, const at::Tensor& values);
  void advance(int64_t t) { length_ += t; }

  /// The last `count` tokens held, or all if there are fewer, and then ids [B, t], the tokens of the next positions, which it
  /// appends. Before advance().
  at::Tensor append_tokens(const at::Tensor& ids, int64_t count);

 private:
  int64_t end_after(int64_t t) const;  ///< t more positions, which must fit
  int64_t grown(int64_t allocated, int64_t end) const;

  std::vector<Entries> passes_;  ///< [B, Hkv, allocated, D]
  at::Tensor tokens_;            ///< [B, allocated]; undefined without append_tokens()
  int64_t length_ = 0, capacity_;
};

}  // namespace pgolf
