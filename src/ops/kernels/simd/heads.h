// Where heads lie in memory.
#pragma once

#include "lanes.h"

namespace pgolf::ops {
namespace {

/// Where the heads of a row begin.
template <class Pointer>
PGOLF_INLINE Pointer row_of(const Heads<Pointer>& x, int64_t row, int64_t time) {
  return x.data + row / time * x.batch_stride + row % time * x.time_stride;
}

}  // namespace
}  // namespace pgolf::ops
