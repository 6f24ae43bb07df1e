#include "pgolf/model_io/gptq.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "pgolf/base/error.h"

namespace pgolf {
namespace {

constexpr double damping = 0.01;  // of the mean of the diagonal
constexpr double least_scale = 1e-10, least_importance = 1e-8;
constexpr std::array quantiles = {0.999, 0.9995, 0.9999, 0.99999, 1.0};

float largest_code(const GptqSettings& settings) {
  return static_cast<float>((1 << (settings.bits - 1)) - 1);
}

/// 1 on average: more for rows with large weights on large inputs.
at::Tensor row_importance(const at::Tensor& weights, const PreparedHessian& hessian) {
  const auto diagonal = hessian.diagonal.clamp_min(least_importance);
  const auto importance = (weights.abs() * (diagonal / diagonal.mean())).mean(1);
  return importance / importance.mean();
}

at::Tensor scale_by_sigmas(const at::Tensor& weights, const PreparedHessian& hessian, const GptqSettings& settings) {
  auto clip = settings.clip_sigmas * weights.std(1);
  if (settings.hessian_clip_lambda > 0)
    clip = clip * (1.0 + settings.hessian_clip_lambda * (row_importance(weights, hessian) - 1.0));
  return (clip / largest_code(settings)).clamp_min(least_scale).to(at::kHalf);
}

at::Tensor scale_by_quantile(const at::Tensor& weights, double quantile, const GptqSettings& settings) {
  const double n = largest_code(settings);
  const auto clip = quantile < 1 ? at::quantile(weights.abs(), quantile, 1) : weights.abs().amax(1);
  return (clip / n).clamp_min(1 / n).to(at::kHalf);
}

/// The columns of a block, row by row: rows are independent of one another. weights [R, C] in the order of quantization, whose
/// columns first .. first+count-1 are read; factor: U; codes [R, C]; errors [R, count].
void quantize_block(const at::Tensor& weights, const at::Tensor& scale, const at::Tensor& factor, int64_t first, int64_t count,
                    float largest, at::Tensor& codes, at::Tensor& errors) {
  const int64_t rows = weights.size(0), columns = weights.size(1);
  const float *const w = weights.const_data_ptr<float>(), *const s = scale.const_data_ptr<float>();
  const float* const u = factor.const_data_ptr<float>() + first * columns + first;
  auto* const q = codes.data_ptr<int8_t>();
  auto* const e = errors.data_ptr<float>();
  std::vector<float> row(static_cast<size_t>(count));
  for (int64_t r = 0; r < rows; ++r) {
    if (s[r] == 0) continue;  // the row has no spread; codes and errors remain 0
    std::copy_n(w + r * columns + first, count, row.begin());
    for (int64_t j = 0; j < count; ++j) {
      const float value = row[static_cast<size_t>(j)];
      const float code = std::clamp(std::nearbyint(value / s[r]), -largest, largest);
      const float error = (value - code * s[r]) / u[j * columns + j];
      q[r * columns + first + j] = static_cast<int8_t>(code);
      e[r * count + j] = error;
      for (int64_t k = j + 1; k < count; ++k) row[static_cast<size_t>(k)] -= error * u[j * columns + k];
    }
  }
}

/// weights: [R, C] in the order of quantization. Returns codes in that order.
at::Tensor quantize_columns(const at::Tensor& weights, const at::Tensor& scale, const at::Tensor& factor,
                            const GptqSettings& settings) {
  const int64_t rows = weights.size(0), columns = weights.size(1);
  const auto scales = scale.to(at::kFloat);
  auto work = weights.clone();
  auto codes = at::zeros({rows, columns}, at::kChar);
  for (int64_t first = 0; first < columns; first += settings.block) {
    const int64_t count = std::min(settings.block, columns - first), after = first + count;
    auto errors = at::zeros({rows, count}, at::kFloat);
    quantize_block(work, scales, factor, first, count, largest_code(settings), codes, errors);
    if (after == columns) break;
    const auto effect = factor.narrow(0, first, count).narrow(1, after, columns - after);
    work.narrow(1, after, columns - after).sub_(at::mm(errors, effect));
  }
  return codes;
}

}  // namespace

PreparedHessian prepare_hessian(const at::Tensor& hessian, const std::string& name) {
  PreparedHessian prepared;
  auto damped = hessian.clone();
  prepared.dead = hessian.diagonal() == 0;
  damped.diagonal().masked_fill_(prepared.dead, 1);
  damped.diagonal().add_(damping * damped.diagonal().mean());
  prepared.diagonal = damped.diagonal().clone();
  prepared.order = at::argsort(prepared.diagonal, -1, /*descending=*/true);
  const auto ordered = damped.index_select(0, prepared.order).index_select(1, prepared.order);
  const auto check = [&](const at::Tensor& info) {
    if (info.item<int>() != 0)
      throw Error(ExitCode::non_finite, "the inputs of " + name + " give no positive definite Hessian",
                  "the model computes values that are not finite, or too large for float32");
  };
  const auto [lower, info] = at::linalg_cholesky_ex(ordered);
  check(info);
  const auto [upper, inverse_info] = at::linalg_cholesky_ex(at::cholesky_inverse(lower), /*upper=*/true);
  check(inverse_info);
  prepared.factor = upper.contiguous();
  return prepared;
}

Codes gptq_codes(const at::Tensor& weights, const PreparedHessian& hessian, const GptqSettings& settings,
                 const std::string& name) {
  const auto w = weights.to(at::kFloat);
  const auto ordered = w.masked_fill(hessian.dead, 0).index_select(1, hessian.order);
  Codes best;
  double least_error = 0;
  const auto attempt = [&](const at::Tensor& scale) {
    if (!at::isfinite(scale).all().item<bool>())
      throw Error(ExitCode::non_finite, "a row of " + name + " has no finite scale in float16");
    const auto codes = quantize_columns(ordered, scale, hessian.factor, settings);
    if (settings.clip == GptqClip::search) {
      const double error = (ordered - codes.to(at::kFloat) * scale.to(at::kFloat).unsqueeze(1)).pow(2).mean().item<double>();
      if (best.codes.defined() && error >= least_error) return;
      least_error = error;
    }
    best = {codes, scale};
  };
  if (settings.clip == GptqClip::sigmas) {
    attempt(scale_by_sigmas(w, hessian, settings));
  } else {
    for (const double quantile : quantiles) attempt(scale_by_quantile(w, quantile, settings));
  }
  best.codes = best.codes.index_select(1, at::argsort(hessian.order));
  return best;
}

}  // namespace pgolf
