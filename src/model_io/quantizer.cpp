#include "pgolf/model_io/quantizer.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <functional>

#include "pgolf/base/share_out.h"
#include "pgolf/config/parameters.h"
#include "pgolf/model_io/gptq.h"
#include "pgolf/model_io/tensors.h"

namespace pgolf {
namespace {

/// Calls f(0) .. f(count-1) on as many threads as LibTorch uses. LibTorch itself is held to one thread meanwhile: the sums of its
/// Cholesky factors depend on the number, also within a parallel region.
void share_out_serial(size_t count, const std::function<void(size_t)>& f) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  try {
    share_out(count, threads, f);
  } catch (...) {
    at::set_num_threads(threads);
    throw;
  }
  at::set_num_threads(threads);
}

at::Tensor host_values(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU).contiguous();
}

void set_codes(CodedTensor* coded, const Codes& codes) {
  coded->data = to_raw(codes.codes);
  coded->scale = to_raw(codes.scale);
}

QuantStats count_bytes(const StateDict& state, const CodedTensors& tensors) {
  QuantStats stats;
  for (const auto& [name, tensor] : state) stats.baseline_tensor_bytes += static_cast<int64_t>(tensor.nbytes());
  for (const CodedTensor& coded : tensors)
    stats.payload_bytes += static_cast<int64_t>(coded.data.bytes->size() + (coded.scale ? coded.scale->bytes->size() : 0));
  return stats;
}

}  // namespace

QuantizedModel quantize_int8(const StateDict& state, const std::vector<std::string>& keep_float_patterns) {
  QuantizedModel out;
  for (const auto& [name, tensor] : state) {
    const auto value = host_values(tensor);
    const auto dtype = value.scalar_type();
    CodedTensor coded{name, {}, {}, to_dtype(dtype)};
    if (!value.is_floating_point()) {
      coded.data = to_raw(value);
    } else if (value.numel() > keep_float_max_numel) {
      set_codes(&coded, int8_codes(value.to(at::kFloat)));
    } else if (std::any_of(keep_float_patterns.begin(), keep_float_patterns.end(),
                           [&key = name](const std::string& pattern) { return key.find(pattern) != std::string::npos; })) {
      coded.data = to_raw(value.to(at::kFloat));
      coded.dtype = DType::float32;
    } else {
      coded.data = to_raw(dtype == at::kFloat || dtype == at::kBFloat16 ? value.to(at::kHalf) : value);
    }
    out.tensors.push_back(std::move(coded));
  }
  out.stats = count_bytes(state, out.tensors);
  return out;
}

PreparedHessians prepare_hessians(const Hessians& hessians) {
  std::vector<std::shared_ptr<const PreparedHessian>> prepared(hessians.size());
  share_out_serial(hessians.size(), [&](size_t i) {
    const Hessian& hessian = hessians[i];
    prepared[i] = std::make_shared<const PreparedHessian>(prepare_hessian(hessian.products, hessian.matrices.front()));
  });
  PreparedHessians out;
  for (size_t i = 0; i < hessians.size(); ++i) {
    for (const auto& name : hessians[i].matrices) out[name] = prepared[i];
  }
  return out;
}

QuantizedModel quantize_gptq(const StateDict& state, const PreparedHessians& hessians, const GptqConfig& config) {
  QuantizedModel out;
  out.tensors.resize(state.size());
  share_out_serial(state.size(), [&](size_t i) {
    const auto& [name, tensor] = state[i];
    const auto value = host_values(tensor);
    CodedTensor& coded = out.tensors[i];
    coded.name = name;
    if (!value.is_floating_point() || value.numel() <= keep_float_max_numel) {
      coded.data = to_raw(value.is_floating_point() ? value.to(at::kHalf) : value);
      coded.dtype = value.is_floating_point() ? DType::float32 : coded.data.dtype;
      return;
    }
    const bool embedding = name == parameter_name::token_embedding;
    const auto hessian = hessians.find(name);
    if (hessian == hessians.end() || (embedding && config.clip == GptqClip::search)) {
      set_codes(&coded, int8_codes(value.to(at::kFloat)));
      return;
    }
    const GptqSettings settings{.bits = embedding ? config.embed_bits : config.matrix_bits,
                                .clip = config.clip,
                                .clip_sigmas = embedding ? config.embed_clip_sigmas : config.matrix_clip_sigmas,
                                .hessian_clip_lambda = config.hessian_clip_lambda};
    set_codes(&coded, gptq_codes(value, *hessian->second, settings, name));
    coded.quantizer = Quantizer::gptq;
    coded.bits = settings.bits;
  });
  out.stats = count_bytes(state, out.tensors);
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
