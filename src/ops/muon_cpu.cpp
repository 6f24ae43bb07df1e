// muon_update_ on the CPU: each thread takes whole matrices, so that none waits for another.
#include <cmath>

#include "cpu.h"
#include "pgolf/ops/linear.h"
#include "pgolf/ops/muon.h"

namespace pgolf::ops::cpu {
namespace {

bool covers_tensor(const at::Tensor& x, at::IntArrayRef sizes) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous() && x.sizes() == sizes;
}

bool covers_matrix(const MuonMatrix& matrix) {
  const auto sizes = matrix.parameter.sizes();
  return sizes.size() == 2 && matrix.parameter.numel() > 0 && covers_tensor(matrix.parameter, sizes) &&
         covers_tensor(matrix.gradient, sizes) && covers_tensor(matrix.momentum_buffer, sizes);
}

template <class T>
void update(const MuonKernels<T>& kernels, const MuonMatrix& matrix, const MuonStep& step) {
  const int64_t rows = matrix.parameter.size(0), columns = matrix.parameter.size(1), count = rows * columns;
  const int64_t x_bytes = round_up(count * static_cast<int64_t>(sizeof(T)), 64);
  char* const memory = thread_scratch<char>(x_bytes + kernels.scratch_bytes(rows, columns));
  auto* const x = reinterpret_cast<T*>(memory);
  const auto* const gradient = in<float>(matrix.gradient);
  auto* const buffer = out<float>(matrix.momentum_buffer);
  const auto momentum = static_cast<float>(step.momentum);
  const double squares = step.normalize_rows ? kernels.nesterov_rows(gradient, buffer, momentum, x, rows, columns)
                                             : kernels.nesterov(gradient, buffer, momentum, x, count);
  kernels.scale(x, static_cast<float>(1 / (std::sqrt(squares) + 1e-7)), count);
  kernels.newton_schulz(x, rows, columns, step.backend_steps, memory + x_bytes);
  const double rows_per_column = static_cast<double>(rows) / static_cast<double>(columns);
  kernels.add_update(out<float>(matrix.parameter), x, static_cast<float>(std::sqrt(std::max(1.0, rows_per_column))),
                     static_cast<float>(-step.lr), count);
}

void update(const MuonMatrix& matrix, const MuonStep& step) {
  if (step.dtype == at::kFloat) return update(muon_kernels<float>(), matrix, step);
  const auto fits = [&](int64_t unit) { return matrix.parameter.size(0) % unit == 0 && matrix.parameter.size(1) % unit == 0; };
  const bool tiles = amx_usable() && fits(amx_muon_kernels().unit);
  update(tiles ? amx_muon_kernels() : muon_kernels<Bf16>(), matrix, step);
}

}  // namespace

std::vector<MuonMatrix> muon_update_(const std::vector<MuonMatrix>& matrices, const MuonStep& step) {
  if (step.dtype != at::kFloat && step.dtype != at::kBFloat16) return matrices;
  std::vector<MuonMatrix> covered, rest;
  for (const auto& matrix : matrices) (covers_matrix(matrix) ? covered : rest).push_back(matrix);
  if (step.weight_decay != 0) {
    for (const auto& matrix : covered) matrix.parameter.mul_(step.keep());
  }
  parallel_for_chunks(static_cast<int64_t>(covered.size()), 1,
                      [&](int64_t i, int64_t) { update(covered[static_cast<size_t>(i)], step); });
  for (const auto& matrix : covered) mark_changed(matrix.parameter);
  return rest;
}

}  // namespace pgolf::ops::cpu
