// Causal attention in bfloat16 on AMX tiles. The scores are kept transposed, a row per key and a lane per query: then keys
// and values are the left operands as they lie in memory, everything per query (maximum, sum, log-sum) is a lane of a vector,
// and the exponentials turn into right operands by one permutation per row pair.
#include "../attention.h"

#include "blocks.h"

namespace pgolf::ops {
namespace {

constexpr float kLog2E = 1.44269504f;

float score_scale(int64_t dim) {
  return 1 / __builtin_sqrtf(static_cast<float>(dim));
}

/// 2^x within 1e-7 for any x that is not above 127.
PGOLF_AMX_INLINE __m512 exp2_of(__m512 x) {
  const __m512 fraction = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(0.00187757669f);
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(0.00898933969f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(0.0558263175f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(0.240153611f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(0.693153083f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(0.99999994f));
  return _mm512_scalef_ps(p, x);
}

/// The lanes (queries) of tile column `half` that may attend to the key of row `row` in a block on the diagonal.
PGOLF_AMX_INLINE __mmask16 visible(int64_t row, int64_t half) {
  const int64_t first = row - 16 * half;
  return static_cast<__mmask16>(first <= 0 ? 0xffff : 0xffff << first);
}

constexpr int64_t kForwardKeys = 4;  ///< blocks of keys in a Forward::Chunk

class Forward {
 public:
  Forward(const AttentionInput<Bf16>& in, Rows<Bf16*> out, float* log_sums, void* memory)
      : in_(in), out_(out), log_sums_(log_sums), blocks_(blocks_of(in.time)), depth_(blocks_of(in.dim)) {
    Scratch scratch(memory);
    keys_ = scratch.take<Bf16>(blocks_ * depth_ * kBlockSize);
    values_ = scratch.take<Bf16>(blocks_ * depth_ * kBlockSize);
    queries_ = scratch.take<Bf16>(blocks_ * depth_ * kBlockSize);
    for (int side = 0; side < 2; ++side) {
      scores_[side] = scratch.take<float>(kForwardKeys * kBlockSize);
      probabilities_[side] = scratch.take<Bf16>(kForwardKeys * kBlockSize);
      softmax_[side].weighted_sums = scratch.take<float>(depth_ * kBlockSize);
    }
    for (int64_t block = 0; block < blocks_; ++block) {
      for (int64_t dim_block = 0; dim_block < depth_; ++dim_block) {
        const int64_t across = (block * depth_ + dim_block) * kBlockSize, along = (dim_block * blocks_ + block) * kBlockSize;
        block_of(in.k, in.time, in.dim, block, dim_block).store_left(keys_ + across);
        block_of(in.v, in.time, in.dim, block, dim_block).store_transposed_left(values_ + along);
        block_of(in.q, in.time, in.dim, block, dim_block).store_transposed_right(queries_ + across);
      }
    }
  }

  /// While the exponentials of one chunk are computed, the tiles compute the scores of the next and the sums of the previous one.
  void run() {
    const TileScope tiles;
    Chunk last{}, chunk = first_chunk(0, 0);
    add_scores(chunk);
    queue_.drain();
    while (true) {
      const bool more = chunk.block + 1 < blocks_ || !chunk.ends_block();
      const Chunk next = chunk.ends_block() ? first_chunk(chunk.block + 1, chunk.side ^ 1) : chunk.following();
      if (more) add_scores(next);
      if (last.count > 0) add_sums(last);
      exponentials(chunk);
      queue_.drain();
      if (last.count > 0 && last.ends_block()) finish(last.block);
      last = chunk;
      if (!more) break;
      chunk = next;
    }
    add_sums(last);
    queue_.drain();
    finish(last.block);
  }

 private:
  /// One block of queries against `count` blocks of keys, of which the last one is on the diagonal or none.
  struct Chunk {
    int64_t block, first, count;
    int side;  ///< which of the double buffers
    bool ends_block() const { return first + count == block + 1; }
    Chunk following() const {
      const int64_t left = block + 1 - first - count;
      return {block, first + count, min(left, kForwardKeys), side ^ 1};
    }
  };
  static Chunk first_chunk(int64_t block, int side) { return {block, 0, min(block + 1, kForwardKeys), side}; }

  /// The running softmax of a block of queries, 16 to a vector.
  struct Softmax {
    __m512 offset[2], sum[2];
    float* weighted_sums;  ///< blocks of dims x queries
  };
  Softmax& softmax_of(int64_t block) { return softmax_[block % 2]; }

  void add_scores(const Chunk& chunk) {
    const int64_t panel = depth_ * kBlockSize;
    for (int64_t i = 0; i < chunk.count; ++i) {
      queue_.add({scores_[chunk.side] + i * kBlockSize, keys_ + (chunk.first + i) * panel, queries_ + chunk.block * panel, depth_,
                  false});
    }
  }

  void add_sums(const Chunk& chunk) {
    for (int64_t dim_block = 0; dim_block < depth_; ++dim_block) {
      queue_.add({softmax_of(chunk.block).weighted_sums + dim_block * kBlockSize,
                  values_ + (dim_block * blocks_ + chunk.first) * kBlockSize, probabilities_[chunk.side], chunk.count,
                  chunk.first > 0});
    }
  }

  void exponentials(const Chunk& chunk) {
    float* const scores = scores_[chunk.side];
    if (chunk.ends_block()) hide_later_keys(scores + (chunk.count - 1) * kBlockSize);
    Softmax& softmax = softmax_of(chunk.block);
    const __m512 factor = _mm512_set1_ps(score_scale(in_.dim) * kLog2E);
    for (int half = 0; half < 2; ++half) {
      const float* from = scores + half * kTile;
      update_offset(softmax, half, _mm512_mul_ps(largest(from, chunk.count), factor), chunk);
      const __m512 offset = softmax.offset[half];
      __m512 even_sum = _mm512_setzero_ps(), odd_sum = _mm512_setzero_ps();
      Bf16* const to = probabilities_[chunk.side] + half * 2 * kTile;
      for (int64_t tile = 0; tile < 2 * chunk.count; ++tile, from += 2 * kTile) {
        Bf16* const pairs = to + tile / 2 * kBlockSize + tile % 2 * (8 * kBlock);
#pragma GCC unroll 8
        for (int pair = 0; pair < 8; ++pair) {
          const __m512 even = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(from + pair * 32), factor, offset));
          const __m512 odd = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(from + pair * 32 + 16), factor, offset));
          even_sum = _mm512_add_ps(even_sum, even);
          odd_sum = _mm512_add_ps(odd_sum, odd);
          _mm512_store_si512(pairs + pair * kBlock, to_bf16_pairs(even, odd));
        }
        queue_.step();
      }
      softmax.sum[half] = _mm512_add_ps(softmax.sum[half], _mm512_add_ps(even_sum, odd_sum));
    }
  }

  static void hide_later_keys(float* block) {
    for (int64_t row = 0; row < kBlock; ++row) {
      for (int64_t half = 0; half < 2; ++half) {
        float* const at = block + (row / 16 * 2 + half) * kTile + row % 16 * 16;
        _mm512_mask_store_ps(at, static_cast<__mmask16>(~visible(row, half)), _mm512_set1_ps(-__builtin_inff()));
      }
    }
  }

  static __m512 largest(const float* from, int64_t count) {
    __m512 top[4];
    for (auto& t : top) t = _mm512_set1_ps(-__builtin_inff());
    for (int64_t tile = 0; tile < 2 * count; ++tile, from += 2 * kTile) {
#pragma GCC unroll 16
      for (int row = 0; row < 16; ++row) top[row % 4] = _mm512_max_ps(top[row % 4], _mm512_load_ps(from + row * 16));
    }
    return _mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3]));
  }

  /// A query's offset is updated only when its maximum exceeds it by a factor of 2^8; the sums can hold that much.
  void update_offset(Softmax& softmax, int half, __m512 largest, const Chunk& chunk) {
    __m512& offset = softmax.offset[half];
    if (chunk.first == 0) {
      offset = largest;
      softmax.sum[half] = _mm512_setzero_ps();
      return;
    }
    const __mmask16 behind = _mm512_cmp_ps_mask(largest, _mm512_add_ps(offset, _mm512_set1_ps(8.0f)), _CMP_GT_OQ);
    if (behind == 0) return;
    queue_.drain();
    const __m512 shrink = _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), behind, exp2_of(_mm512_sub_ps(offset, largest)));
    offset = _mm512_mask_mov_ps(offset, behind, largest);
    softmax.sum[half] = _mm512_mul_ps(softmax.sum[half], shrink);
    for (int64_t tile = 0; tile < 2 * depth_; ++tile) {
      float* const at = softmax.weighted_sums + (2 * tile + half) * kTile;
      for (int row = 0; row < 16; ++row) _mm512_store_ps(at + row * 16, _mm512_mul_ps(_mm512_load_ps(at + row * 16), shrink));
    }
  }

  void finish(int64_t block) {
    const Softmax& softmax = softmax_of(block);
    const int64_t row = block * kBlock, rows = min(in_.time - row, kBlock);
    alignas(64) float sum[kBlock], offset[kBlock];
    __m512 inverse[2];
    for (int half = 0; half < 2; ++half) {
      _mm512_store_ps(sum + 16 * half, softmax.sum[half]);
      _mm512_store_ps(offset + 16 * half, softmax.offset[half]);
      inverse[half] = _mm512_div_ps(_mm512_set1_ps(1.0f), softmax.sum[half]);
    }
    for (int64_t i = 0; i < rows; ++i) log_sums_[row + i] = offset[i] + __builtin_log2f(sum[i]);
    write_transposed(softmax.weighted_sums, inverse, {out_.data + row * out_.stride, out_.stride}, rows, in_.dim);
  }

  const AttentionInput<Bf16>& in_;
  Rows<Bf16*> out_;
  float* log_sums_;
  int64_t blocks_, depth_;
  Bf16* keys_;     ///< left panels of keys over dims
  Bf16* values_;   ///< left panels of dims over keys
  Bf16* queries_;  ///< right panels of queries over dims
  float* scores_[2];
  Bf16* probabilities_[2];  ///< right panel of queries over the keys of a chunk
  Softmax softmax_[2];
  ProductQueue queue_;
};

// Blocks of keys and of queries in a Backward::Chunk.
constexpr int64_t kBackwardKeys = 4, kBackwardQueries = 4;

/// sum of a * b over one row.
PGOLF_AMX_INLINE float dot(const Bf16* a, const Bf16* b, int64_t dim) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < dim; i += 16) {
    const auto at = [i](const Bf16* x) { return from_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i))); };
    sum = _mm512_fmadd_ps(at(a), at(b), sum);
  }
  return _mm512_reduce_add_ps(sum);
}

class Backward {
 public:
  Backward(const AttentionInput<Bf16>& in, Rows<const Bf16*> out, Rows<const Bf16*> dout, const float* log_sums, Rows<Bf16*> dq,
           float* dk, float* dv, void* memory)
      : in_(in), dq_(dq), dk_(dk), dv_(dv), blocks_(blocks_of(in.time)), panel_(blocks_of(in.dim) * kBlockSize) {
    Scratch scratch(memory);
    keys_ = scratch.take<Bf16>(blocks_ * panel_);
    keys_transposed_ = scratch.take<Bf16>(blocks_ * panel_);
    values_ = scratch.take<Bf16>(blocks_ * panel_);
    queries_ = scratch.take<Bf16>(blocks_ * panel_);
    queries_transposed_ = scratch.take<Bf16>(blocks_ * panel_);
    douts_ = scratch.take<Bf16>(blocks_ * panel_);
    douts_transposed_ = scratch.take<Bf16>(blocks_ * panel_);
    log_sums_ = scratch.take<float>(blocks_ * kBlock);
    deltas_ = scratch.take<float>(blocks_ * kBlock);
    dq_sums_ = scratch.take<float>(blocks_ * panel_);
    for (int side = 0; side < 2; ++side) {
      scores_[side] = scratch.take<float>(kBlockSize);
      dp_[side] = scratch.take<float>(kBlockSize);
      p_[side] = scratch.take<Bf16>(kBackwardKeys * kBackwardQueries * kBlockSize);
      ds_[side] = scratch.take<Bf16>(kBackwardKeys * kBackwardQueries * kBlockSize);
      ds_transposed_[side] = scratch.take<Bf16>(kBackwardKeys * kBackwardQueries * kBlockSize);
      dk_sums_[side] = scratch.take<float>(kBackwardKeys * panel_);
      dv_sums_[side] = scratch.take<float>(kBackwardKeys * panel_);
    }
    const int64_t depth = panel_ / kBlockSize;
    for (int64_t block = 0; block < blocks_; ++block) {
      for (int64_t dim_block = 0; dim_block < depth; ++dim_block) {
        const int64_t across = block * panel_ + dim_block * kBlockSize, along = (dim_block * blocks_ + block) * kBlockSize;
        const auto k = block_of(in.k, in.time, in.dim, block, dim_block);
        k.store_left(keys_ + across);
        k.store_transposed_left(keys_transposed_ + along);
        block_of(in.v, in.time, in.dim, block, dim_block).store_left(values_ + across);
        const auto q = block_of(in.q, in.time, in.dim, block, dim_block), d = block_of(dout, in.time, in.dim, block, dim_block);
        q.store_right(queries_ + along);
        q.store_transposed_right(queries_transposed_ + across);
        d.store_right(douts_ + along);
        d.store_transposed_right(douts_transposed_ + across);
      }
    }
    for (int64_t row = 0; row < blocks_ * kBlock; ++row) {
      const bool real = row < in.time;
      log_sums_[row] = real ? log_sums[row] : 0.0f;
      deltas_[row] = real ? dot(out.data + row * out.stride, dout.data + row * dout.stride, in.dim) : 0.0f;
    }
  }

  /// While the elementwise work of one chunk is done, the tiles compute the gradients of the previous one.
  void run() {
    const TileScope tiles;
    Chunk last{};
    int side = 0, keys_side = 0;
    for (int64_t key = 0; key < blocks_; key += kBackwardKeys, keys_side ^= 1) {
      for (int64_t query = key; query < blocks_; query += kBackwardQueries, side ^= 1) {
        const int64_t end_key = min(key + kBackwardKeys, blocks_), end_query = min(query + kBackwardQueries, blocks_);
        const Chunk chunk{key, end_key, query, end_query, side, keys_side};
        add_products(last);
        score_gradients(chunk);
        queue_.drain();
        finish(last);
        last = chunk;
      }
    }
    add_products(last);
    queue_.drain();
    finish(last);
    const float scale = score_scale(in_.dim);
    const __m512 factor[2] = {_mm512_set1_ps(scale), _mm512_set1_ps(scale)};
    for (int64_t query = 0; query < blocks_; ++query) {
      const int64_t row = query * kBlock;
      write_transposed(dq_sums_ + query * panel_, factor, {dq_.data + row * dq_.stride, dq_.stride}, in_.time - row, in_.dim);
    }
  }

 private:
  /// Blocks of keys against blocks of queries not before them; for one range of keys the queries come in ascending order.
  struct Chunk {
    int64_t first_key, end_key, first_query, end_query;
    int side, keys_side;  ///< which of the double buffers, per chunk and per range of keys

    int64_t end_key_of(int64_t query) const { return min(query + 1, end_key); }
    int64_t first_query_of(int64_t key) const { return key > first_query ? key : first_query; }
    /// Places of a block in p_ and ds_ (panels of keys over queries), and in ds_transposed_ (panels of queries over keys).
    int64_t at(int64_t key, int64_t query) const {
      return ((key - first_key) * kBackwardQueries + query - first_query) * kBlockSize;
    }
    int64_t transposed_at(int64_t key, int64_t query) const {
      return ((query - first_query) * kBackwardKeys + key - first_key) * kBlockSize;
    }
  };
  void add_products(const Chunk& chunk) {
    add_products_of_keys(chunk, dv_sums_[chunk.keys_side], p_[chunk.side], douts_);
    add_products_of_keys(chunk, dk_sums_[chunk.keys_side], ds_[chunk.side], queries_);
    for (int64_t query = chunk.first_query; query < chunk.end_query; ++query) {
      const int64_t key = chunk.first_key, steps = chunk.end_key_of(query) - key;
      for (int64_t dim_block = 0; dim_block < panel_ / kBlockSize; ++dim_block) {
        queue_.add({dq_sums_ + query * panel_ + dim_block * kBlockSize,
                    keys_transposed_ + (dim_block * blocks_ + key) * kBlockSize,
                    ds_transposed_[chunk.side] + chunk.transposed_at(key, query), steps, key > 0});
      }
    }
  }

  /// sums += rows, keys x queries, times right, queries x dims.
  void add_products_of_keys(const Chunk& chunk, float* sums, const Bf16* rows, const Bf16* right) {
    for (int64_t key = chunk.first_key; key < chunk.end_key; ++key) {
      const int64_t query = chunk.first_query_of(key), steps = chunk.end_query - query;
      if (steps <= 0) continue;
      for (int64_t dim_block = 0; dim_block < panel_ / kBlockSize; ++dim_block) {
        queue_.add({sums + (key - chunk.first_key) * panel_ + dim_block * kBlockSize, rows + chunk.at(key, query),
                    right + (dim_block * blocks_ + query) * kBlockSize, steps, chunk.first_query > chunk.first_key});
      }
    }
  }

  /// The elementwise work of a chunk. Meanwhile the scores of the next block are computed, ahead of the queue.
  void score_gradients(const Chunk& chunk) {
    int64_t key = chunk.first_key, query = chunk.first_query;
    int buffer = 0;
    queue_.start(scores_of(key, query, buffer));
    queue_.start(dp_of(key, query, buffer));
    queue_.flush();
    while (true) {
      int64_t next_key = key + 1, next_query = query;
      if (next_key >= chunk.end_key_of(query)) {
        next_key = chunk.first_key;
        ++next_query;
      }
      const bool more = next_query < chunk.end_query;
      const auto beside = [&](int64_t slot) __attribute__((always_inline)) {
        if (slot < 2 && more) {
          queue_.start(slot == 0 ? scores_of(next_key, next_query, buffer ^ 1) : dp_of(next_key, next_query, buffer ^ 1));
        } else {
          queue_.step();
        }
      };
      if (key == query) {
        block_gradients<true>(chunk, key, query, buffer, beside);
      } else {
        block_gradients<false>(chunk, key, query, buffer, beside);
      }
      if (!more) break;
      key = next_key;
      query = next_query;
      buffer ^= 1;
    }
  }

  Product scores_of(int64_t key, int64_t query, int buffer) const {
    return {scores_[buffer], keys_ + key * panel_, queries_transposed_ + query * panel_, panel_ / kBlockSize, false};
  }
  Product dp_of(int64_t key, int64_t query, int buffer) const {
    return {dp_[buffer], values_ + key * panel_, douts_transposed_ + query * panel_, panel_ / kBlockSize, false};
  }

  /// p and ds * sqrt(dim) of one block; beside(slot) is called for slots 0 .. 7 in between.
  template <bool kDiagonal, class F>
  PGOLF_AMX_INLINE void block_gradients(const Chunk& chunk, int64_t key, int64_t query, int buffer, const F& beside) {
    const __m512 factor = _mm512_set1_ps(score_scale(in_.dim) * kLog2E);
    const float *const log_sums = log_sums_ + query * kBlock, *const deltas = deltas_ + query * kBlock;
    Bf16 *p_rows = p_[chunk.side] + chunk.at(key, query), *ds_rows = ds_[chunk.side] + chunk.at(key, query);
    for (int64_t tile = 0; tile < 2; ++tile) {
      const float *s = scores_[buffer] + tile * 2 * kTile, *dp = dp_[buffer] + tile * 2 * kTile;
      Bf16* pairs = ds_transposed_[chunk.side] + chunk.transposed_at(key, query) + tile * 8 * kBlock;
      for (int64_t slot = 0; slot < 4; ++slot) {
        const __m512 log_sum[2] = {_mm512_load_ps(log_sums), _mm512_load_ps(log_sums + 16)};
        const __m512 delta[2] = {_mm512_load_ps(deltas), _mm512_load_ps(deltas + 16)};
#pragma GCC unroll 2
        for (int64_t pair = 0; pair < 2; ++pair, s += 32, dp += 32, pairs += kBlock) {
          __m512i ds_row[2];
#pragma GCC unroll 2
          for (int64_t odd = 0; odd < 2; ++odd, p_rows += kBlock, ds_rows += kBlock) {
            __m512 p[2], ds[2];
#pragma GCC unroll 2
            for (int64_t half = 0; half < 2; ++half) {
              p[half] = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(s + half * kTile + odd * 16), factor, log_sum[half]));
              if (kDiagonal) p[half] = _mm512_maskz_mov_ps(visible(16 * tile + 4 * slot + 2 * pair + odd, half), p[half]);
              ds[half] = _mm512_mul_ps(p[half], _mm512_sub_ps(_mm512_load_ps(dp + half * kTile + odd * 16), delta[half]));
            }
            ds_row[odd] = to_bf16(ds[0], ds[1]);
            _mm512_store_si512(p_rows, to_bf16(p[0], p[1]));
            _mm512_store_si512(ds_rows, ds_row[odd]);
          }
          __m512i low, high;
          interleave_rows(ds_row[0], ds_row[1], &low, &high);
          _mm512_store_si512(pairs, low);
          _mm512_store_si512(pairs + 2 * kTile, high);
        }
        beside(4 * tile + slot);
      }
    }
  }

  /// Writes dk and dv of a range of keys after its last chunk.
  void finish(const Chunk& chunk) {
    if (chunk.end_query < blocks_) return;
    for (int64_t key = chunk.first_key; key < chunk.end_key; ++key) {
      const int64_t row = key * kBlock, from = (key - chunk.first_key) * panel_;
      write_rows(dk_sums_[chunk.keys_side] + from, score_scale(in_.dim), dk_ + row * in_.dim, in_.time - row, in_.dim);
      write_rows(dv_sums_[chunk.keys_side] + from, 1.0f, dv_ + row * in_.dim, in_.time - row, in_.dim);
    }
  }

  const AttentionInput<Bf16>& in_;
  Rows<Bf16*> dq_;
  float *dk_, *dv_;
  int64_t blocks_, panel_;                        ///< panel_: elements of a block across all dims
  Bf16 *keys_, *values_;                          ///< left panels of keys over dims
  Bf16* keys_transposed_;                         ///< left panels of dims over keys
  Bf16 *queries_transposed_, *douts_transposed_;  ///< right panels of queries over dims
  Bf16 *queries_, *douts_;                        ///< right panels of dims over queries
  float *log_sums_, *deltas_;                     ///< per query; delta = rowsum(dout * out)
  float* dq_sums_;                                ///< blocks of dims x queries
  float *scores_[2], *dp_[2];                     ///< one block of keys x queries: q k^T and dout v^T
  Bf16 *p_[2], *ds_[2], *ds_transposed_[2];
  float *dk_sums_[2], *dv_sums_[2];  ///< blocks of keys x dims
  ProductQueue queue_;
};

int64_t scratch_bytes(int64_t time, int64_t dim) {
  const int64_t blocks = blocks_of(time), panel = blocks_of(dim) * kBlockSize;  // as Backward needs it; Forward needs less
  const int64_t per_head = blocks * (panel * (7 * 2 + 4) + 2 * kBlock * 4);
  const int64_t per_chunk = 2 * kBlockSize * 4 + kBackwardKeys * (3 * kBackwardQueries * kBlockSize * 2 + 2 * panel * 4);
  return per_head + 2 * per_chunk;
}

void forward(const AttentionInput<Bf16>& in, Rows<Bf16*> out, float* log_sums, void* scratch) {
  Forward(in, out, log_sums, scratch).run();
}

void backward(const AttentionInput<Bf16>& in, Rows<const Bf16*> out, Rows<const Bf16*> dout, const float* log_sums,
              Rows<Bf16*> dq, float* dk, float* dv, void* scratch) {
  Backward(in, out, dout, log_sums, dq, dk, dv, scratch).run();
}

void sum_heads(const float* from, int64_t heads, Rows<Bf16*> to, int64_t time, int64_t dim) {
  for (int64_t row = 0; row < time; ++row) {
    for (int64_t column = 0; column < dim; column += 16) {
      const float* const first = from + row * dim + column;
      __m512 sum = _mm512_loadu_ps(first);
      for (int64_t head = 1; head < heads; ++head) sum = _mm512_add_ps(sum, _mm512_loadu_ps(first + head * time * dim));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.data + row * to.stride + column), (__m256i)_mm512_cvtneps_pbh(sum));
    }
  }
}

constexpr AttentionKernels<Bf16> kernels{scratch_bytes, forward, backward, sum_heads};

}  // namespace

const AttentionKernels<Bf16>& amx_attention_kernels() {
  return kernels;
}

}  // namespace pgolf::ops
