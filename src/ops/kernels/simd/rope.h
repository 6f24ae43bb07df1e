// qk_norm_rope_gain: norm, rotation and gain of queries and keys.
#pragma once

#include "heads.h"
#include "rms_norm.h"

namespace pgolf::ops {
namespace {

/// Calls visit(i, part, values) for all vectors of factor * x, one head at one time, rotated by the table's angles; direction -1:
/// rotated back.
template <class T, class F>
PGOLF_INLINE void for_rotated(const T* x, float factor, RotationTable table, int64_t time, float direction, int64_t dim,
                              const F& visit) {
  const float *const cos = table.cos + time * table.half, *const sin = table.sin + time * table.half;
  const int64_t half = table.half;
  int64_t done = 2 * half;
  if (table.interleaved) {
    for_lanes(done, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats own = factor * load(x + i, part), partner = __builtin_shuffle(own, lane_numbers() ^ 1);
      const Floats signs = (lane_numbers() & 1) == 0 ? all(direction) : all(-direction);
      visit(i, part, own * load_twice(cos + i / 2, part) + partner * (signs * load_twice(sin + i / 2, part)));
    });
  } else if (half > 0 && done <= kLanes && kLanes <= dim) {
    // The partners are in one vector, followed by lanes that do not rotate.
    const Ints lane = lane_numbers(), h = lane_numbers() * 0 + static_cast<int32_t>(half);
    const Ints pair = lane < h ? lane : lane - h, partner_of = lane < h ? lane + h : pair;
    const First pairs{half};
    const Floats own = factor * load(x), partner = __builtin_shuffle(own, partner_of);
    const Floats s = __builtin_shuffle(load(sin, pairs), pair), c = __builtin_shuffle(load(cos, pairs), pair);
    const Floats rotated = own * c + partner * (lane < h ? direction * s : -direction * s);
    visit(0, All{}, lane < 2 * h ? rotated : own);
    done = kLanes;
  } else {
    for_lanes(half, [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA {
      const Floats a = factor * load(x + i, part), b = factor * load(x + i + half, part);
      const Floats c = load(cos + i, part), s = direction * load(sin + i, part);
      visit(i, part, a * c + b * s);
      visit(i + half, part, b * c - a * s);
    });
  }
  for_lanes(dim - done,
            [&](int64_t i, auto part) PGOLF_INLINE_LAMBDA { visit(done + i, part, factor * load(x + done + i, part)); });
}

/// One head at one time.
template <class T>
PGOLF_INLINE float norm_rotate_head(const T* x, T* y, RotationTable table, int64_t time, float gain, const HeadShape& shape,
                                    int64_t dim) {
  const float r = shape.normalize ? reciprocal_rms(dot(x, x, dim), dim) : 1.0f;
  for_rotated(x, r, table, time, 1.0f, dim,
              [&](int64_t i, auto part, Floats rotated) PGOLF_INLINE_LAMBDA { store(y + i, gain * rotated, part); });
  return r;
}

/// With u the gradient rotated back and n = x * rstd: dgain = u . n and dx = rstd * gain * (u - n * (u . n) / dim); without
/// normalization rstd = 1 and dx = gain * u.
template <class T>
PGOLF_INLINE float norm_rotate_backward_head(const T* dy, const T* x, float r, RotationTable table, int64_t time, float gain,
                                             T* dx, const HeadShape& shape, int64_t dim) {
  Floats products = {};
  for_rotated(dy, 1.0f, table, time, -1.0f, dim,
              [&](int64_t i, auto part, Floats u) PGOLF_INLINE_LAMBDA { products += u * load(x + i, part); });
  const float product = r * sum_of(products), factor = r * gain;
  const float along = shape.normalize ? factor * product * r / static_cast<float>(dim) : 0.0f;
  for_rotated(dy, 1.0f, table, time, -1.0f, dim, [&](int64_t i, auto part, Floats u) PGOLF_INLINE_LAMBDA {
    store(dx + i, factor * u - along * load(x + i, part), part);
  });
  return product;
}

template <class T, int64_t kDim>
void norm_rotate_rows(Heads<const T*> x, Heads<T*> y, float* rstd, RotationTable table, const float* gain, HeadShape shape,
                      int64_t first, int64_t rows) {
  for (int64_t row = first; row < first + rows; ++row) {
    const T* const x_row = row_of(x, row, shape.time);
    T* const y_row = row_of(y, row, shape.time);
    for (int64_t head = 0; head < shape.heads; ++head) {
      const float r = norm_rotate_head(x_row + head * x.head_stride, y_row + head * y.head_stride, table, row % shape.time,
                                       gain != nullptr ? gain[head] : 1.0f, shape, kDim != 0 ? kDim : shape.dim);
      if (rstd != nullptr) rstd[row * shape.heads + head] = r;
    }
  }
}

template <class T>
void norm_rotate(Heads<const T*> x, Heads<T*> y, float* rstd, RotationTable table, const float* gain, HeadShape shape,
                 int64_t first, int64_t rows) {
  const auto run = shape.dim == 32    ? norm_rotate_rows<T, 32>
                   : shape.dim == 64  ? norm_rotate_rows<T, 64>
                   : shape.dim == 128 ? norm_rotate_rows<T, 128>
                                      : norm_rotate_rows<T, 0>;
  run(x, y, rstd, table, gain, shape, first, rows);
}

template <class T, int64_t kDim>
void norm_rotate_backward_rows(Heads<const T*> dy, Heads<const T*> x, const float* rstd, RotationTable table, const float* gain,
                               Heads<T*> dx, float* dgain, HeadShape shape, int64_t first, int64_t rows) {
  if (dgain != nullptr) {
    for (int64_t head = 0; head < shape.heads; ++head) dgain[head] = 0;
  }
  for (int64_t row = first; row < first + rows; ++row) {
    const T* const dy_row = row_of(dy, row, shape.time);
    const T* const x_row = row_of(x, row, shape.time);
    T* const dx_row = row_of(dx, row, shape.time);
    for (int64_t head = 0; head < shape.heads; ++head) {
      const float product = norm_rotate_backward_head(
          dy_row + head * dy.head_stride, x_row + head * x.head_stride, rstd[row * shape.heads + head], table, row % shape.time,
          gain != nullptr ? gain[head] : 1.0f, dx_row + head * dx.head_stride, shape, kDim != 0 ? kDim : shape.dim);
      if (dgain != nullptr) dgain[head] += product;
    }
  }
}

template <class T>
void norm_rotate_backward(Heads<const T*> dy, Heads<const T*> x, const float* rstd, RotationTable table, const float* gain,
                          Heads<T*> dx, float* dgain, HeadShape shape, int64_t first, int64_t rows) {
  const auto run = shape.dim == 32    ? norm_rotate_backward_rows<T, 32>
                   : shape.dim == 64  ? norm_rotate_backward_rows<T, 64>
                   : shape.dim == 128 ? norm_rotate_backward_rows<T, 128>
                                      : norm_rotate_backward_rows<T, 0>;
  run(dy, x, rstd, table, gain, dx, dgain, shape, first, rows);
}

}  // namespace
}  // namespace pgolf::ops
