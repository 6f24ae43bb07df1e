#include "pgolf/model/kv_cache.h"

#include <torch/types.h>

#include <algorithm>

namespace pgolf {
namespace {

constexpr int64_t kInitialPositions = 64;

/// x reallocated for `allocated` positions in dimension `dim`, or a first allocation for tensors like `like`. The rest is
/// uninitialized.
at::Tensor reallocated(const at::Tensor& x, const at::Tensor& like, int64_t dim, int64_t allocated, int64_t held) {
  auto sizes = like.sizes().vec();
  sizes[static_cast<size_t>(dim)] = allocated;
  const auto grown = at::empty(sizes, like.options());
  if (held > 0) grown.narrow(dim, 0, held).copy_(x.narrow(dim, 0, held));
  return grown;
}

int64_t positions(const at::Tensor& x, int64_t dim) {
  return x.defined() ? x.size(dim) : 0;
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
  return total + (tokens_.defined() ? static_cast<int64_t>(tokens_.nbytes()) : 0);
}

void KvCache::truncate(int64_t length) {
  TORCH_CHECK(length >= 0 && length <= length_, "cannot truncate a KvCache of ", length_, " positions to ", length);
  length_ = length;
}

int64_t KvCache::end_after(int64_t t) const {
  const int64_t end = length_ + t;
  TORCH_CHECK(end <= capacity_, "KvCache has a capacity of ", capacity_, " positions, needs ", end);
  return end;
}

int64_t KvCache::grown(int64_t allocated, int64_t end) const {
  return std::min(capacity_, std::max({end, 2 * allocated, kInitialPositions}));
}

at::Tensor KvCache::append_tokens(const at::Tensor& ids, int64_t count) {
  const int64_t end = end_after(ids.size(1)), before = std::min(count, length_);
  if (const int64_t allocated = positions(tokens_, 1); allocated < end)
    tokens_ = reallocated(tokens_, ids, 1, grown(allocated, end), length_);
  tokens_.narrow(1, length_, ids.size(1)).copy_(ids);
  return tokens_.narrow(1, length_ - before, before + ids.size(1));
}

KvCache::Entries KvCache::append(int64_t pass, const at::Tensor& keys, const at::Tensor& values) {
  const int64_t end = end_after(keys.size(2));
  auto& held = passes_[static_cast<size_t>(pass)];
  if (const int64_t allocated = positions(held.keys, 2); allocated < end) {
    const int64_t wanted = grown(allocated, end);
    held = {reallocated(held.keys, keys, 2, wanted, length_), reallocated(held.values, values, 2, wanted, length_)};
  }
  held.keys.narrow(2, length_, keys.size(2)).copy_(keys);
  held.values.narrow(2, length_, values.size(2)).copy_(values);
  return {held.keys.narrow(2, 0, end), held.values.narrow(2, 0, end)};
}

}  // namespace pgolf
