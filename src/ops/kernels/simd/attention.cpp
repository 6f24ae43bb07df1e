// Causal attention in float32. Compiled once per instruction set like kernels.cpp, under the same rules.
//
// The scores are kept transposed, a row per key and a lane per query: everything per query (maximum, sum, log-sum) is then a
// lane of a vector, and all products are one function that broadcasts single values of the left matrix, in either order.
#include "../attention.h"

#include "lanes.h"

namespace pgolf::ops {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kRows = 8;
#else
constexpr int64_t kRows = 4;
#endif
constexpr int64_t kStrip = 2 * kLanes;  ///< columns of a product that are computed together; kRows rows of it fill the registers
constexpr int64_t kKeys = 128;          ///< keys whose scores forward() holds at a time
constexpr int64_t kBackwardKeys = 32, kQueries = 128;  ///< the block of scores that backward() holds; whole strips
constexpr float kLog2E = 1.44269504f;

PGOLF_INLINE Floats max(Floats a, Floats b) {
  return a > b ? a : b;
}

/// 2^x within 1e-7 for x <= 127; 0 below -126.
PGOLF_INLINE Floats exp2_of(Floats x) {
  const Floats round = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits
  const Floats bounded = x < -126.0f ? all(-126.0f) : x;
  const Floats shifted = bounded + round;
  const Floats r = bounded - (shifted - round);
  Floats p = all(0.000153458124f);
  p = p * r + 0.00133999309f;
  p = p * r + 0.00961848907f;
  p = p * r + 0.0555032864f;
  p = p * r + 0.240226462f;
  p = p * r + 0.693147182f;
  p = p * r + 1.0f;
  const Floats scaled = (Floats)((Ints)p + ((Ints)shifted << 23));
  return x < -126.0f ? Floats{} : scaled;
}

/// The left matrix of a product, in either order: element (i, j) is data[i * row + j * depth].
struct Left {
  const float* data;
  int64_t row, depth;
};

template <int64_t kRowCount, int64_t kVectors>
PGOLF_INLINE void multiply_strip(float* c, int64_t c_stride, Left left, Rows<const float*> right, int64_t depth,
                                 bool accumulate) {
  Floats sum[kRowCount][kVectors];
#pragma GCC unroll 8
  for (int64_t i = 0; i < kRowCount; ++i) {
#pragma GCC unroll 2
    for (int64_t j = 0; j < kVectors; ++j) sum[i][j] = accumulate ? load(c + i * c_stride + j * kLanes) : Floats{};
  }
  for (int64_t step = 0; step < depth; ++step) {
    Floats b[kVectors];
#pragma GCC unroll 2
    for (int64_t j = 0; j < kVectors; ++j) b[j] = load(right.data + step * right.stride + j * kLanes);
#pragma GCC unroll 8
    for (int64_t i = 0; i < kRowCount; ++i) {
      const Floats a = all(left.data[i * left.row + step * left.depth]);
#pragma GCC unroll 2
      for (int64_t j = 0; j < kVectors; ++j) sum[i][j] += a * b[j];
    }
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < kRowCount; ++i) {
#pragma GCC unroll 2
    for (int64_t j = 0; j < kVectors; ++j) store(c + i * c_stride + j * kLanes, sum[i][j]);
  }
}

/// c [rows, columns] (+)= left [rows, depth] right [depth, columns]; columns a multiple of kLanes.
void multiply(Rows<float*> c, Left left, Rows<const float*> right, int64_t rows, int64_t columns, int64_t depth,
              bool accumulate) {
  for (int64_t column = 0; column < columns; column += kStrip) {
    const Rows<const float*> b{right.data + column, right.stride};
    const bool whole = columns - column >= kStrip;
    int64_t row = 0;
    for (; row + kRows <= rows; row += kRows) {
      float* const to = c.data + row * c.stride + column;
      const Left a{left.data + row * left.row, left.row, left.depth};
      if (whole) {
        multiply_strip<kRows, 2>(to, c.stride, a, b, depth, accumulate);
      } else {
        multiply_strip<kRows, 1>(to, c.stride, a, b, depth, accumulate);
      }
    }
    for (; row < rows; ++row) {
      float* const to = c.data + row * c.stride + column;
      const Left a{left.data + row * left.row, left.row, left.depth};
      if (whole) {
        multiply_strip<1, 2>(to, c.stride, a, b, depth, accumulate);
      } else {
        multiply_strip<1, 1>(to, c.stride, a, b, depth, accumulate);
      }
    }
  }
}

/// [rows, dim] -> [dim, kStrip], columns beyond `rows` zero; dim a multiple of 4.
void transpose(Rows<const float*> from, int64_t rows, int64_t dim, float* to) {
  using Four = float __attribute__((vector_size(16)));
  using FourIndex = int32_t __attribute__((vector_size(16)));
  for (int64_t row = 0; row < kStrip; row += 4) {
    for (int64_t column = 0; column < dim; column += 4) {
      Four r[4] = {};
      for (int64_t i = 0; i < 4 && row + i < rows; ++i) __builtin_memcpy(&r[i], from.data + (row + i) * from.stride + column, 16);
      const Four a = __builtin_shuffle(r[0], r[1], FourIndex{0, 4, 1, 5}),
                 b = __builtin_shuffle(r[2], r[3], FourIndex{0, 4, 1, 5});
      const Four c = __builtin_shuffle(r[0], r[1], FourIndex{2, 6, 3, 7}),
                 d = __builtin_shuffle(r[2], r[3], FourIndex{2, 6, 3, 7});
      r[0] = __builtin_shuffle(a, b, FourIndex{0, 1, 4, 5});
      r[1] = __builtin_shuffle(a, b, FourIndex{2, 3, 6, 7});
      r[2] = __builtin_shuffle(c, d, FourIndex{0, 1, 4, 5});
      r[3] = __builtin_shuffle(c, d, FourIndex{2, 3, 6, 7});
      for (int64_t i = 0; i < 4; ++i) __builtin_memcpy(to + (column + i) * kStrip + row, &r[i], 16);
    }
  }
}

/// All ones in the lanes whose query, first_query + lane, may attend to the key.
PGOLF_INLINE Ints visible(int64_t key, int64_t first_query, int64_t window) {
  Ints query{};
  for (int32_t i = 0; i < kLanes; ++i) query[i] = i;
  const int64_t first = key - first_query, end = min(first + window, kLanes);
  return (query >= static_cast<int32_t>(first)) & (query < static_cast<int32_t>(end));
}

/// Whether they all may.
PGOLF_INLINE bool all_visible(int64_t key, int64_t first_query, int64_t window) {
  return key <= first_query && key + window >= first_query + kLanes;
}

float score_scale(int64_t dim) {
  return 1 / __builtin_sqrtf(static_cast<float>(dim));
}

Left by_row(Rows<const float*> matrix, int64_t first) {
  return {matrix.data + first * matrix.stride, matrix.stride, 1};
}

/// A strip of queries against all keys that they may attend to; the running softmax of flash attention.
void forward_strip(const AttentionInput<float>& in, Rows<float*> out, float* log_sums, int64_t first, float* memory) {
  const int64_t rows = min(kStrip, in.time - first), end = first + rows;
  float* const q = memory;                    // [dim, kStrip]
  float* const scores = q + in.dim * kStrip;  // [kKeys, kStrip]
  const Rows<float*> to{out.data + first * out.stride, out.stride};
  const float factor = score_scale(in.dim) * kLog2E;
  transpose({in.q.data + first * in.q.stride, in.q.stride}, rows, in.dim, q);
  Floats offset[2] = {all(-__builtin_inff()), all(-__builtin_inff())}, sum[2] = {};
  // Every query of the strip sees one of the first kKeys keys, so that no maximum stays at -infinity.
  const int64_t begin = first < in.window ? 0 : first - in.window + 1;
  for (int64_t key = begin; key < end; key += kKeys) {
    const int64_t keys = min(kKeys, end - key);
    multiply({scores, kStrip}, by_row(in.k, key), {q, kStrip}, keys, kStrip, in.dim, false);
    float shrink[kStrip];
    for (int half = 0; half < 2; ++half) {
      float* const s = scores + half * kLanes;
      const int64_t query = first + half * kLanes;
      Floats largest = offset[half];
      for (int64_t i = 0; i < keys; ++i) {
        Floats score = load(s + i * kStrip) * factor;
        if (!all_visible(key + i, query, in.window)) score = visible(key + i, query, in.window) ? score : all(-__builtin_inff());
        store(s + i * kStrip, score);
        largest = max(score, largest);
      }
      const Floats smaller = exp2_of(offset[half] - largest);
      store(shrink + half * kLanes, smaller);
      offset[half] = largest;
      Floats added{};
      for (int64_t i = 0; i < keys; ++i) {
        const Floats e = exp2_of(load(s + i * kStrip) - largest);
        store(s + i * kStrip, e);
        added += e;
      }
      sum[half] = sum[half] * smaller + added;
    }
    if (key > begin) {
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t column = 0; column < in.dim; ++column) to.data[i * to.stride + column] *= shrink[i];
      }
    }
    multiply(to, {scores, 1, kStrip}, {in.v.data + key * in.v.stride, in.v.stride}, rows, in.dim, keys, key > begin);
  }
  float sums[kStrip], offsets[kStrip];
  for (int half = 0; half < 2; ++half) {
    store(sums + half * kLanes, sum[half]);
    store(offsets + half * kLanes, offset[half]);
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t column = 0; column < in.dim; ++column) to.data[i * to.stride + column] /= sums[i];
    log_sums[first + i] = offsets[i] + __builtin_log2f(sums[i]);
  }
}

void forward(const AttentionInput<float>& in, Rows<float*> out, float* log_sums, void* scratch) {
  for (int64_t first = 0; first < in.time; first += kStrip) {
    forward_strip(in, out, log_sums, first, static_cast<float*>(scratch));
  }
}

int64_t whole_strips(int64_t time) {
  return (time + kStrip - 1) / kStrip * kStrip;
}

/// p and ds of a strip of queries against `keys` keys, at p and ds with kQueries from key to key; zero where the mask is.
void strip_gradients(const AttentionInput<float>& in, const float* q_transposed, const float* dout_transposed,
                     const float* log_sums, const float* deltas, int64_t first_query, int64_t first_key, int64_t keys, float* p,
                     float* ds) {
  const float scale = score_scale(in.dim), factor = scale * kLog2E;
  const int64_t seen = min(keys, first_query + kStrip - first_key);
  multiply({p, kQueries}, by_row(in.k, first_key), {q_transposed, kStrip}, seen, kStrip, in.dim, false);
  multiply({ds, kQueries}, by_row(in.v, first_key), {dout_transposed, kStrip}, seen, kStrip, in.dim, false);
  for (int half = 0; half < 2; ++half) {
    const int64_t query = first_query + half * kLanes;
    const Floats delta = load(deltas + half * kLanes), log_sum = load(log_sums + half * kLanes);
    for (int64_t i = 0; i < keys; ++i) {
      const int64_t at = i * kQueries + half * kLanes, key = first_key + i;
      Floats e{}, gradient{};
      if (i < seen) {
        e = exp2_of(load(p + at) * factor - log_sum);
        if (!all_visible(key, query, in.window)) e = visible(key, query, in.window) ? e : Floats{};
        gradient = e * (load(ds + at) - delta) * scale;
      }
      store(p + at, e);
      store(ds + at, gradient);
    }
  }
}

void backward(const AttentionInput<float>& in, Rows<const float*> out, Rows<const float*> dout, const float* log_sums,
              Rows<float*> dq, float* dk, float* dv, void* scratch) {
  const int64_t padded = whole_strips(in.time);
  float* const q_transposed = static_cast<float*>(scratch);       // strips of [dim, kStrip]
  float* const dout_transposed = q_transposed + padded * in.dim;  // the same
  float* const deltas = dout_transposed + padded * in.dim;        // rowsum(dout * out)
  float* const padded_sums = deltas + padded;                     // log_sums
  float* const p = padded_sums + padded;                          // [kBackwardKeys, kQueries]
  float* const ds = p + kBackwardKeys * kQueries;                 // the same
  for (int64_t first = 0; first < in.time; first += kStrip) {
    const int64_t rows = min(kStrip, in.time - first);
    transpose({in.q.data + first * in.q.stride, in.q.stride}, rows, in.dim, q_transposed + first * in.dim);
    transpose({dout.data + first * dout.stride, dout.stride}, rows, in.dim, dout_transposed + first * in.dim);
  }
  for (int64_t row = 0; row < padded; ++row) {
    deltas[row] = padded_sums[row] = 0;
    if (row >= in.time) continue;
    Floats product{};
    for (int64_t column = 0; column < in.dim; column += kLanes) {
      product += load(out.data + row * out.stride + column) * load(dout.data + row * dout.stride + column);
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) deltas[row] += product[lane];
    padded_sums[row] = log_sums[row];
  }
  // Without a window the first keys reach all queries, and start their sums.
  const bool starts = in.window >= in.time;
  for (int64_t row = 0; row < in.time && !starts; ++row) {
    for (int64_t column = 0; column < in.dim; column += kLanes) store(dq.data + row * dq.stride + column, Floats{});
  }
  for (int64_t key = 0; key < in.time; key += kBackwardKeys) {
    const int64_t keys = min(kBackwardKeys, in.time - key), end = min(in.time, key + keys - 1 + in.window);
    for (int64_t first = key; first < end; first += kQueries) {
      const int64_t queries = min(kQueries, in.time - first);
      for (int64_t query = first; query < first + queries; query += kStrip) {
        strip_gradients(in, q_transposed + query * in.dim, dout_transposed + query * in.dim, padded_sums + query, deltas + query,
                        query, key, keys, p + query - first, ds + query - first);
      }
      const Left p_left{p, kQueries, 1}, ds_left{ds, kQueries, 1}, ds_transposed{ds, 1, kQueries};
      const Rows<const float*> d{dout.data + first * dout.stride, dout.stride}, q{in.q.data + first * in.q.stride, in.q.stride};
      multiply({dv + key * in.dim, in.dim}, p_left, d, keys, in.dim, queries, first > key);
      multiply({dk + key * in.dim, in.dim}, ds_left, q, keys, in.dim, queries, first > key);
      multiply({dq.data + first * dq.stride, dq.stride}, ds_transposed, {in.k.data + key * in.k.stride, in.k.stride}, queries,
               in.dim, keys, !starts || key > 0);
    }
  }
}

int64_t scratch_bytes(int64_t time, int64_t dim) {
  const int64_t backward = 2 * whole_strips(time) * (dim + 1) + 2 * kBackwardKeys * kQueries, forward = (dim + kKeys) * kStrip;
  return static_cast<int64_t>(sizeof(float)) * (backward > forward ? backward : forward);
}

void sum_heads(const float* from, int64_t heads, Rows<float*> to, int64_t time, int64_t dim) {
  for (int64_t row = 0; row < time; ++row) {
    for (int64_t column = 0; column < dim; column += kLanes) {
      const float* const first = from + row * dim + column;
      Floats sum = load(first);
      for (int64_t head = 1; head < heads; ++head) sum += load(first + head * time * dim);
      store(to.data + row * to.stride + column, sum);
    }
  }
}

}  // namespace

namespace PGOLF_ISA {
extern const AttentionKernels<float> float_attention_kernels;
constexpr AttentionKernels<float> float_attention_kernels{scratch_bytes, forward, backward, sum_heads};
}  // namespace PGOLF_ISA

}  // namespace pgolf::ops
