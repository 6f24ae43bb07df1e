// rms_norm, residual_mix and scaled_add. A team of threads holds one row at a time, one pack each, and steps through the
// rows by the number of teams, so that a thread sees the same columns in every row and can sum over rows in registers.
#include "kernels.h"
#include "team.cuh"

namespace pgolf::ops::cuda {
namespace {

constexpr int kLaunchBound = kMaxRowBytes / 16;

/// For kernels without partial sums.
constexpr int64_t kMaxTeams = 4096;

struct Rows {
  int64_t rows, width, teams;
  bool aligned;
};

struct Grid {
  dim3 blocks, threads;
};

template <class T>
Grid grid_for(const Rows& shape) {
  constexpr int64_t threads_per_block = 256;
  const int64_t team_threads = ceil_div<int64_t>(shape.width, kPack<T> * kWarp) * kWarp;
  const int64_t teams_per_block = threads_per_block > team_threads ? threads_per_block / team_threads : 1;
  return {dim3(static_cast<unsigned>(ceil_div(shape.teams, teams_per_block))),
          dim3(static_cast<unsigned>(team_threads), static_cast<unsigned>(teams_per_block))};
}

template <class T, class... Pointers>
Rows rows_of(int64_t rows, int64_t width, int64_t teams, Pointers... pointers) {
  return {rows, width, teams, width % kPack<T> == 0 && on_boundaries(pointers...)};
}

__device__ int64_t team_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}

/// f(row) for the rows of this thread's team. All teams run the same number of iterations, so that f may sum over the team;
/// a team with no row left gets a row >= rows and must neither read nor write it.
template <class F>
__device__ void for_rows(const Rows& shape, const F& f) {
  const int64_t team = team_index();
  for (int64_t begin = 0; begin < shape.rows; begin += shape.teams) {
    f(team < shape.teams ? begin + team : shape.rows);
  }
}

/// One thread's columns of every row.
template <class T>
struct Columns {
  __device__ explicit Columns(const Rows& rows) : shape(rows), first(threadIdx.x * kPack<T>) {}

  __device__ Pack<T> load(const T* x, int64_t row) const {
    return row < shape.rows ? load_pack(x + row * shape.width, first, shape.width, shape.aligned) : Pack<T>{};
  }
  __device__ void store(T* x, int64_t row, const Pack<T>& pack) const {
    if (row < shape.rows) store_pack(x + row * shape.width, first, shape.width, shape.aligned, pack);
  }
  __device__ Pack<T> parameters(const float* values) const { return load_floats<T>(values, first, shape.width, shape.aligned); }
  /// values[row] for the team's first thread to write, null for the others and where there are no values.
  __device__ float* per_row(float* values, int64_t row) const {
    return values != nullptr && threadIdx.x == 0 && row < shape.rows ? values + row : nullptr;
  }
  __device__ void store_sums(float* sums, const Pack<T>& pack) const {
    for (int i = 0; i < kPack<T>; ++i) {
      if (first + i < shape.width) sums[first + i] = pack.elements[i];
    }
  }

  Rows shape;
  int64_t first;
};

/// y[row] = factor * rms_norm(x), with x as it is in memory; rstd[row] unless null.
template <class T>
__device__ void norm_row(Team& team, const Columns<T>& columns, const Pack<T>& x, float factor, T* y, float* rstd, int64_t row) {
  const float r = reciprocal_rms(team.sum(dot(x, x)), columns.shape.width);
  columns.store(y, row, scaled(x, factor * r));
  if (float* const to = columns.per_row(rstd, row)) *to = r;
}

/// dx = the gradient of y = factor * rms_norm(x) for the incoming gradient dy.
template <class T>
__device__ Pack<T> norm_backward_row(Team& team, const Columns<T>& columns, const Pack<T>& dy, const Pack<T>& x, float r,
                                     float factor) {
  return combined(factor * r, dy, -norm_backward_coefficient(team.sum(dot(dy, x)), r, factor, columns.shape.width), x);
}

template <class T>
__global__ void __launch_bounds__(kLaunchBound) rms_norm_kernel(const T* x, float factor, T* y, float* rstd, Rows shape) {
  const Columns<T> columns(shape);
  Team team;
  for_rows(shape, [&](int64_t row) { norm_row(team, columns, columns.load(x, row), factor, y, rstd, row); });
}

template <class T>
__global__ void __launch_bounds__(kLaunchBound)
    rms_norm_backward_kernel(const T* dy, const T* x, const float* rstd, float factor, T* dx, Rows shape) {
  const Columns<T> columns(shape);
  Team team;
  for_rows(shape, [&](int64_t row) {
    const float r = row < shape.rows ? rstd[row] : 0.0f;
    columns.store(dx, row, norm_backward_row(team, columns, columns.load(dy, row), columns.load(x, row), r, factor));
  });
}

/// The gradient at y of an op that returned y and perhaps factor * rms_norm(y).
template <bool kNormed, class T>
__device__ Pack<T> incoming(Team& team, const Columns<T>& columns, const T* dy, const NormedOutput<T>& normed, int64_t row) {
  const Pack<T> direct = columns.load(dy, row);
  if constexpr (kNormed) {
    const float r = row < columns.shape.rows ? normed.rstd[row] : 0.0f;
    const Pack<T> through =
        norm_backward_row(team, columns, columns.load(normed.dnormed, row), columns.load(normed.y, row), r, normed.factor);
    return combined(1.0f, direct, 1.0f, through);
  }
  return direct;
}

template <class T, bool kNormed>
__global__ void __launch_bounds__(kLaunchBound)
    residual_mix_kernel(const T* x, const T* x0, const float* mix, T* y, float factor, T* normed, float* rstd, Rows shape) {
  const Columns<T> columns(shape);
  const Pack<T> m = columns.parameters(mix), m0 = columns.parameters(mix + shape.width);
  Team team;
  for_rows(shape, [&](int64_t row) {
    const Pack<T> a = columns.load(x, row), a0 = columns.load(x0, row);
    const Pack<T> sum = combined(m, a, m0, a0);
    columns.store(y, row, sum);
    if constexpr (kNormed) norm_row(team, columns, as_stored(sum), factor, normed, rstd, row);
  });
}

template <class T, bool kNormed>
__global__ void __launch_bounds__(kLaunchBound)
    residual_mix_backward_kernel(const T* dy, NormedOutput<T> normed, const T* x, const T* x0, const float* mix, T* dx, T* dx0,
                                 float* dmix, Rows shape) {
  const Columns<T> columns(shape);
  const Pack<T> m = columns.parameters(mix), m0 = columns.parameters(mix + shape.width);
  Pack<T> sums{}, sums0{};
  Team team;
  for_rows(shape, [&](int64_t row) {
    const Pack<T> a = columns.load(x, row), a0 = columns.load(x0, row);
    const Pack<T> d = incoming<kNormed>(team, columns, dy, normed, row);
    columns.store(dx, row, pack_of<T>([&](int i) { return d.elements[i] * m.elements[i]; }));
    columns.store(dx0, row, pack_of<T>([&](int i) { return d.elements[i] * m0.elements[i]; }));
    sums = pack_of<T>([&](int i) { return sums.elements[i] + d.elements[i] * a.elements[i]; });
    sums0 = pack_of<T>([&](int i) { return sums0.elements[i] + d.elements[i] * a0.elements[i]; });
  });
  if (team_index() < shape.teams) {
    float* const partial = dmix + team_index() * 2 * shape.width;
    columns.store_sums(partial, sums);
    columns.store_sums(partial + shape.width, sums0);
  }
}

template <class T, bool kNormed>
__global__ void __launch_bounds__(kLaunchBound)
    scaled_add_kernel(const T* x, const float* scale, const T* branch, T* y, float factor, T* normed, float* rstd, Rows shape) {
  const Columns<T> columns(shape);
  const Pack<T> s = columns.parameters(scale);
  Team team;
  for_rows(shape, [&](int64_t row) {
    const Pack<T> a = columns.load(x, row), b = columns.load(branch, row);
    const Pack<T> sum = pack_of<T>([&](int i) { return a.elements[i] + s.elements[i] * b.elements[i]; });
    columns.store(y, row, sum);
    if constexpr (kNormed) norm_row(team, columns, as_stored(sum), factor, normed, rstd, row);
  });
}

template <class T, bool kNormed>
__global__ void __launch_bounds__(kLaunchBound)
    scaled_add_backward_kernel(const T* dy, NormedOutput<T> normed, const float* scale, const T* branch, T* dx, T* dbranch,
                               float* dscale, Rows shape) {
  const Columns<T> columns(shape);
  const Pack<T> s = columns.parameters(scale);
  Pack<T> sums{};
  Team team;
  for_rows(shape, [&](int64_t row) {
    const Pack<T> b = columns.load(branch, row);
    const Pack<T> d = incoming<kNormed>(team, columns, dy, normed, row);
    if constexpr (kNormed) columns.store(dx, row, d);
    columns.store(dbranch, row, pack_of<T>([&](int i) { return d.elements[i] * s.elements[i]; }));
    sums = pack_of<T>([&](int i) { return sums.elements[i] + d.elements[i] * b.elements[i]; });
  });
  if (team_index() < shape.teams) columns.store_sums(dscale + team_index() * shape.width, sums);
}

int64_t max_teams(int64_t rows) {
  return rows < kMaxTeams ? rows : kMaxTeams;
}

}  // namespace

template <class T>
void ResidualKernels<T>::rms_norm(const T* x, float factor, T* y, float* rstd, int64_t rows, int64_t width) const {
  const Rows shape = rows_of<T>(rows, width, max_teams(rows), x, y);
  const Grid grid = grid_for<T>(shape);
  launch<kLaunchBound>(rms_norm_kernel<T>, grid.blocks, grid.threads, stream, x, factor, y, rstd, shape);
}

template <class T>
void ResidualKernels<T>::rms_norm_backward(const T* dy, const T* x, const float* rstd, float factor, T* dx, int64_t rows,
                                           int64_t width) const {
  const Rows shape = rows_of<T>(rows, width, max_teams(rows), dy, x, dx);
  const Grid grid = grid_for<T>(shape);
  launch<kLaunchBound>(rms_norm_backward_kernel<T>, grid.blocks, grid.threads, stream, dy, x, rstd, factor, dx, shape);
}

template <class T>
void ResidualKernels<T>::residual_mix(const T* x, const T* x0, const float* mix, T* y, float factor, T* normed, float* rstd,
                                      int64_t rows, int64_t width) const {
  const Rows shape = rows_of<T>(rows, width, max_teams(rows), x, x0, mix, y, normed);
  const Grid grid = grid_for<T>(shape);
  const auto kernel = normed != nullptr ? residual_mix_kernel<T, true> : residual_mix_kernel<T, false>;
  launch<kLaunchBound>(kernel, grid.blocks, grid.threads, stream, x, x0, mix, y, factor, normed, rstd, shape);
}

template <class T>
void ResidualKernels<T>::residual_mix_backward(const T* dy, NormedOutput<T> normed, const T* x, const T* x0, const float* mix,
                                               T* dx, T* dx0, float* dmix, int64_t rows, int64_t width) const {
  const Rows shape = rows_of<T>(rows, width, partial_sums(rows, width), dy, normed.dnormed, normed.y, x, x0, mix, dx, dx0);
  const Grid grid = grid_for<T>(shape);
  const auto kernel = normed.dnormed != nullptr ? residual_mix_backward_kernel<T, true> : residual_mix_backward_kernel<T, false>;
  launch<kLaunchBound>(kernel, grid.blocks, grid.threads, stream, dy, normed, x, x0, mix, dx, dx0, dmix, shape);
}

template <class T>
void ResidualKernels<T>::scaled_add(const T* x, const float* scale, const T* branch, T* y, float factor, T* normed, float* rstd,
                                    int64_t rows, int64_t width) const {
  const Rows shape = rows_of<T>(rows, width, max_teams(rows), x, scale, branch, y, normed);
  const Grid grid = grid_for<T>(shape);
  const auto kernel = normed != nullptr ? scaled_add_kernel<T, true> : scaled_add_kernel<T, false>;
  launch<kLaunchBound>(kernel, grid.blocks, grid.threads, stream, x, scale, branch, y, factor, normed, rstd, shape);
}

template <class T>
void ResidualKernels<T>::scaled_add_backward(const T* dy, NormedOutput<T> normed, const float* scale, const T* branch, T* dx,
                                             T* dbranch, float* dscale, int64_t rows, int64_t width) const {
  const Rows shape = rows_of<T>(rows, width, partial_sums(rows, width), dy, normed.dnormed, normed.y, scale, branch, dx, dbranch);
  const Grid grid = grid_for<T>(shape);
  const auto kernel = normed.dnormed != nullptr ? scaled_add_backward_kernel<T, true> : scaled_add_backward_kernel<T, false>;
  launch<kLaunchBound>(kernel, grid.blocks, grid.threads, stream, dy, normed, scale, branch, dx, dbranch, dscale, shape);
}

template struct ResidualKernels<float>;
template struct ResidualKernels<Bf16>;

}  // namespace pgolf::ops::cuda
