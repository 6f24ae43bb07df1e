// muon_update_ in bfloat16 on AMX tiles: each thread takes whole matrices, so that none waits for another.
#include <cmath>

#include "cpu_ops.h"
#include "kernels/amx/gemm.h"
#include "kernels/amx/newton_schulz.h"
#include "pgolf/ops/linear.h"
#include "pgolf/ops/muon.h"

namespace pgolf::ops::cpu {
namespace {

bool covers_matrix(const at::Tensor& x, at::IntArrayRef sizes) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous() && x.sizes() == sizes;
}

bool covers_update(const MuonMatrix& matrix) {
  const auto sizes = matrix.parameter.sizes();
  return sizes.size() == 2 && sizes[0] % amx::kDepthStep == 0 && sizes[1] % amx::kDepthStep == 0 &&
         matrix.parameter.numel() > 0 && covers_matrix(matrix.parameter, sizes) && covers_matrix(matrix.gradient, sizes) &&
         covers_matrix(matrix.momentum_buffer, sizes);
}

void update(const MuonMatrix& matrix, const MuonStep& step, Bf16* x) {
  const int64_t rows = matrix.parameter.size(0), columns = matrix.parameter.size(1), count = rows * columns;
  const double squares =
      amx::nesterov(in<float>(matrix.gradient), out<float>(matrix.momentum_buffer), static_cast<float>(step.momentum), x, count);
  amx::scale(x, static_cast<float>(1 / (std::sqrt(squares) + 1e-7)), count);
  amx::newton_schulz(x, rows, columns, step.backend_steps, x + count);
  const double rows_per_column = static_cast<double>(rows) / static_cast<double>(columns);
  amx::add_update(out<float>(matrix.parameter), x, static_cast<float>(std::sqrt(std::max(1.0, rows_per_column))),
                  static_cast<float>(-step.lr), count);
}

}  // namespace

bool muon_update_(const std::vector<MuonMatrix>& matrices, const MuonStep& step) {
  if (!amx_usable() || step.dtype != at::kBFloat16 || !std::all_of(matrices.begin(), matrices.end(), covers_update)) return false;
  share_out(static_cast<int64_t>(matrices.size()), 1, [&](int64_t i, int64_t) {
    const auto& matrix = matrices[static_cast<size_t>(i)];
    const int64_t rows = matrix.parameter.size(0), columns = matrix.parameter.size(1);
    update(matrix, step, thread_scratch<Bf16>(rows * columns + amx::newton_schulz_scratch(rows, columns)));
  });
  for (const auto& matrix : matrices) mark_changed(matrix.parameter);
  return true;
}

}  // namespace pgolf::ops::cpu
