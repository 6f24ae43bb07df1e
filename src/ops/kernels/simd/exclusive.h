// exclude_value: heads without their part along a value.
#pragma once

#include "heads.h"
#include "rms_norm.h"

namespace pgolf::ops {
namespace {

/// The direction of a value: n = r * v.
struct Direction {
  float r;
  bool unit;  ///< false: r is a constant, since the value is shorter than kMinValueLength
};
template <class T>
PGOLF_INLINE Direction direction_of(const T* v, int64_t dim) {
  const float length = __builtin_sqrtf(dot(v, v, dim));
  const bool unit = !(length < kMinValueLength);  // NaN propagates
  return {1 / (unit ? length : kMinValueLength), unit};
}

template <class T, int64_t kDim>
void exclude_value_rows(Heads<const T*> y, Heads<const T*> v, Heads<T*> rest, GroupShape shape, int64_t first, int64_t rows) {
  const int64_t dim = kDim != 0 ? kDim : shape.dim;
  for (int64_t row = first; row < first + rows; ++row) {
    const T* value = row_of(v, row, shape.time);
    const T* from = row_of(y, row, shape.time);
    T* to = row_of(rest, row, shape.time);
    for (int64_t head = 0; head < shape.kv_heads; ++head, value += v.head_stride) {
      const float r = direction_of(value, dim).r;
      for (int64_t member = 0; member < shape.group; ++member, from += y.head_stride, to += rest.head_stride) {
        const float along = r * dot(from, value, dim) * r;
        for_lanes(dim, [&](int64_t i, auto part)
                           PGOLF_INLINE_LAMBDA { store(to + i, load(from + i, part) - along * load(value + i, part), part); });
      }
    }
  }
}

template <class T>
void exclude_value(Heads<const T*> y, Heads<const T*> v, Heads<T*> rest, GroupShape shape, int64_t first, int64_t rows) {
  const auto run = shape.dim == 32    ? exclude_value_rows<T, 32>
                   : shape.dim == 64  ? exclude_value_rows<T, 64>
                   : shape.dim == 128 ? exclude_value_rows<T, 128>
                                      : exclude_value_rows<T, 0>;
  run(y, v, rest, shape, first, rows);
}

/// With g = drest, c = g . n and p = y . n: dy = g - c n and, through n, dn = -sum(c y + p g) over the group; dv is dn without
/// its part along n, which is -2 sum(c p), divided by |v|. If |v| is a constant, that part stays.
template <class T, int64_t kDim>
void exclude_value_backward_rows(Heads<const T*> drest, Heads<const T*> y, Heads<const T*> v, Heads<T*> dy, Heads<T*> dv,
                                 GroupShape shape, int64_t first, int64_t rows) {
  const int64_t dim = kDim != 0 ? kDim : shape.dim;
  float sums[kDim != 0 ? kDim : kMaxHeadDim];
  for (int64_t row = first; row < first + rows; ++row) {
    const T* gradient = row_of(drest, row, shape.time);
    const T* from = row_of(y, row, shape.time);
    const T* value = row_of(v, row, shape.time);
    T* dy_to = row_of(dy, row, shape.time);
    T* dv_to = row_of(dv, row, shape.time);
    for (int64_t head = 0; head < shape.kv_heads; ++head, value += v.head_stride, dv_to += dv.head_stride) {
      const Direction n = direction_of(value, dim);
      for (int64_t i = 0; i < dim; ++i) sums[i] = 0;
      float product = 0;
      for (int64_t member = 0; member < shape.group; ++member) {
        const float c = n.r * dot(gradient, value, dim), p = n.r * dot(from, value, dim), along = c * n.r;
        product += c * p;
        for_lanes(dim, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
          const Floats g = load(gradient + i, part);
          store(dy_to + i, g - along * load(value + i, part), part);
          store(sums + i, load(sums + i, part) + (c * load(from + i, part) + p * g), part);
        });
        gradient += drest.head_stride, from += y.head_stride, dy_to += dy.head_stride;
      }
      const float along = n.unit ? n.r * 2 * product * n.r : 0.0f;
      for_lanes(dim, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
        store(dv_to + i, along * load(value + i, part) - n.r * load(sums + i, part), part);
      });
    }
  }
}

template <class T>
void exclude_value_backward(Heads<const T*> drest, Heads<const T*> y, Heads<const T*> v, Heads<T*> dy, Heads<T*> dv,
                            GroupShape shape, int64_t first, int64_t rows) {
  const auto run = shape.dim == 32    ? exclude_value_backward_rows<T, 32>
                   : shape.dim == 64  ? exclude_value_backward_rows<T, 64>
                   : shape.dim == 128 ? exclude_value_backward_rows<T, 128>
                                      : exclude_value_backward_rows<T, 0>;
  run(drest, y, v, dy, dv, shape, first, rows);
}

}  // namespace
}  // namespace pgolf::ops
