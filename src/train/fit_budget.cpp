#include "pgolf/train/fit_budget.h"

#include <algorithm>
#include <cmath>

#include "pgolf/artifact/contents.h"

namespace pgolf {
namespace {

constexpr double largest_factor = 8;
constexpr double margin = 1e-3, accuracy = 5e-4;  // of the size: predictions are better than that
constexpr int most_candidates = 5, most_steps = 8;

double count_codes(const QuantizedModel& model) {
  double codes = 0;
  for (const CodedTensor& tensor : model.tensors) {
    if (tensor.scale) codes += static_cast<double>(tensor.data.numel());
  }
  return codes;
}

}  // namespace

double information_bytes(const QuantizedModel& model) {
  double bytes = 0;
  for (const CodedTensor& tensor : model.tensors) {
    const auto stored = static_cast<double>(tensor.data.bytes->size());
    bytes += tensor.scale ? stored * code_entropy(tensor.data) / 8 + static_cast<double>(tensor.scale->bytes->size()) : stored;
  }
  return bytes;
}

FittedModel fit_budget(const std::function<QuantizedModel(double factor)>& quantize,
                       const std::function<Artifact(const QuantizedModel&)>& compress, int64_t limit) {
  struct Point {
    double information, size;
  };
  FittedModel fitted;
  fitted.quantized = quantize(fitted.factor);
  const double codes = count_codes(fitted.quantized);
  Point before{0, 0};  // the size as a function of the information: a line through the last two points
  while (true) {
    fitted.artifact = compress(fitted.quantized);
    const Point here{information_bytes(fitted.quantized), static_cast<double>(fitted.artifact.file.size())};
    const bool fits = here.size <= static_cast<double>(limit);
    if (++fitted.compressed == most_candidates || fits || fitted.factor >= largest_factor) return fitted;
    const double slope = (here.information - before.information) / (here.size - before.size);
    const double target = here.information + slope * (static_cast<double>(limit) * (1 - margin) - here.size);
    before = here;
    for (int step = 0; step < most_steps && fitted.factor < largest_factor; ++step) {
      const double excess = information_bytes(fitted.quantized) - target;
      if (std::abs(excess) <= accuracy * std::abs(target)) break;
      fitted.factor = std::min(largest_factor, fitted.factor * std::exp2(8 * excess / codes));
      fitted.quantized = quantize(fitted.factor);
    }
  }
}

}  // namespace pgolf
