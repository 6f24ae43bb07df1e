#include "pgolf/model/kv_cache.h"

#include <torch/types.h>

#include <algorithm>

namespace pgolf {
namespace {

constexpr int64_t kInitialPositions = 64;

/// x [B, H, ., D] reallocated for `allocated` positions, or a first allocation for tensors like `like`. The rest is
/// uninitialized.
at::Tensor reallocated(const at::Tensor& x, const at::Tensor& like, int64_t allocated, int64_t held) {
  const auto grown = at::empty({like.size(0), like.size(1), allocated, like.size(3)}, like.options());
  if (held > 0) grown.narrow(2, 0, held).copy_(x.narrow(2, 0, held));
  return grown;
}

}  // namespace

KvCache::KvCache(int64_t passes, int64_t capacity) : passes_(static_cast<size_t>(passes)), capacity_(capacity) {
  TORCH_CHECK(capacity > 0, "KvCache capacity must be positive, not ", capacity);
}

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (const auto& pass : passes_) {
    if (pass.keys.defined()) total += static_cast<int64_t>(pass.keys.nbytes() + pass.values.nbytes());
  }
  return total;
}

void KvCache::truncate(int64_t length) {
  TORCH_CHECK(length >= 0 && length <= length_, "cannot truncate a KvCache of ", length_, " positions to ", length);
  length_ = length;
}

KvCache::Entries KvCache::append(int64_t pass, const at::Tensor& keys, const at::Tensor& values) {
  const int64_t end = length_ + keys.size(2);
  TORCH_CHECK(end <= capacity_, "KvCache has a capacity of ", capacity_, " positions, needs ", end);
  auto& held = passes_[static_cast<size_t>(pass)];
  if (const int64_t allocated = held.keys.defined() ? held.keys.size(2) : 0; allocated < end) {
    const int64_t wanted = std::min(capacity_, std::max({end, 2 * allocated, kInitialPositions}));
    held = {reallocated(held.keys, keys, wanted, length_), reallocated(held.values, values, wanted, length_)};
  }
  held.keys.narrow(2, length_, keys.size(2)).copy_(keys);
  held.values.narrow(2, length_, values.size(2)).copy_(values);
  return {held.keys.narrow(2, 0, end), held.values.narrow(2, 0, end)};
}

}  // namespace pgolf
