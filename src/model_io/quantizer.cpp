#include "pgolf/model_io/quantizer.h"

#include <torch/types.h>

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/model_io/tensors.h"

namespace pgolf {
namespace {

struct Entry {
  Quantizer quantizer;
  Codes (*quantize)(const at::Tensor& weights);
};

constexpr Entry entries[] = {{Quantizer::int8, quantize_int8}};

Codes quantize_weights(Quantizer quantizer, const at::Tensor& weights) {
  for (const Entry& entry : entries) {
    if (entry.quantizer == quantizer) return entry.quantize(weights);
  }
  throw Error(ExitCode::internal, "unknown quantizer");
}

int64_t byte_count(const RawTensor& tensor) {
  return static_cast<int64_t>(tensor.bytes->size());
}

}  // namespace

CodedTensors quantize(Quantizer quantizer, const StateDict& state, const std::vector<std::string>& keep_float_patterns,
                      QuantStats* stats) {
  CodedTensors out;
  for (const auto& [name, tensor] : state) {
    const auto value = tensor.detach().to(at::kCPU).contiguous();
    stats->baseline_tensor_bytes += static_cast<int64_t>(value.nbytes());
    const auto dtype = value.scalar_type();
    CodedTensor coded{name, {}, {}, to_dtype(dtype)};
    if (!value.is_floating_point()) {
      coded.data = to_raw(value);
    } else if (value.numel() > keep_float_max_numel) {
      const Codes codes = quantize_weights(quantizer, value.to(at::kFloat));
      coded.data = to_raw(codes.codes);
      coded.scale = to_raw(codes.scale);
    } else if (std::any_of(keep_float_patterns.begin(), keep_float_patterns.end(),
                           [&key = name](const std::string& pattern) { return key.find(pattern) != std::string::npos; })) {
      coded.data = to_raw(value.to(at::kFloat));
      coded.dtype = DType::float32;
    } else {
      coded.data = to_raw(dtype == at::kFloat || dtype == at::kBFloat16 ? value.to(at::kHalf) : value);
    }
    stats->payload_bytes += byte_count(coded.data) + (coded.scale ? byte_count(*coded.scale) : 0);
    out.push_back(std::move(coded));
  }
  return out;
}

StateDict dequantize(const CodedTensors& tensors) {
  StateDict state;
  for (const CodedTensor& coded : tensors) {
    auto tensor = to_tensor(coded.data);
    if (coded.scale) {
      auto scale = to_tensor(*coded.scale).to(at::kFloat);
      if (scale.dim() > 0) {
        std::vector<int64_t> column(static_cast<size_t>(tensor.dim()), 1);
        column[0] = tensor.size(0);
        scale = scale.view(column);
      }
      tensor = tensor.to(at::kFloat) * scale;
    }
    state.emplace_back(coded.name, tensor.to(to_scalar_type(coded.dtype)).contiguous());
  }
  return state;
}

}  // namespace pgolf
