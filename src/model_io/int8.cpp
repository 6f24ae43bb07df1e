#include <torch/types.h>

#include <algorithm>

#include "pgolf/model_io/quantizer.h"

namespace pgolf {
namespace {

constexpr double clip_quantile = 99.99984 / 100.0;

// at::quantile rejects more than 16,000,000 elements, so rows are processed in groups.
at::Tensor row_quantiles(const at::Tensor& magnitudes) {
  const int64_t rows = magnitudes.size(0), columns = magnitudes.size(1);
  const int64_t group = std::max<int64_t>(1, 16'000'000 / std::max<int64_t>(1, columns));
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < rows; first += group) {
    parts.push_back(at::quantile(magnitudes.narrow(0, first, std::min(group, rows - first)), clip_quantile, /*dim=*/1));
  }
  return at::cat(parts);
}

Codes quantize_rows(const at::Tensor& values) {
  const auto clip = row_quantiles(values.abs());
  const auto limit = clip.unsqueeze(1);
  const auto clipped = at::maximum(at::minimum(values, limit), -limit);
  const auto scale = (clip / 127.0).clamp_min(1.0 / 127.0);
  const auto q = at::clamp(at::round(clipped / scale.unsqueeze(1)), -127, 127).to(at::kChar).contiguous();
  return {q, scale.to(at::kHalf)};
}

Codes quantize_whole(const at::Tensor& values) {
  const double clip = at::quantile(values.abs().flatten(), clip_quantile).item<double>();
  const auto scale = at::scalar_tensor(clip > 0 ? clip / 127.0 : 1.0, at::kFloat);
  const auto q = at::clamp(at::round(at::clamp(values, -clip, clip) / scale), -127, 127).to(at::kChar).contiguous();
  return {q, scale};
}

}  // namespace

Codes int8_codes(const at::Tensor& weights) {
  return weights.dim() == 2 ? quantize_rows(weights) : quantize_whole(weights);
}

}  // namespace pgolf
