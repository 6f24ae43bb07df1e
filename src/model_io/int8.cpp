#include "pgolf/model_io/int8.h"

#include <torch/types.h>

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/model_io/tensors.h"

namespace pgolf {
namespace {

constexpr const char* format_name = "int8_clean_per_row_v1";
constexpr double clip_quantile = 99.99984 / 100.0;

struct Codes {
  at::Tensor q;      // int8, shape of the input
  at::Tensor scale;  // float16 [rows] or float32 scalar
};

// at::quantile refuses more than 16,000,000 elements, so rows go through it in groups.
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

at::ScalarType dtype_from_name(const std::string& dtype, const std::string& where) {
  for (const DType candidate : {DType::float32, DType::bfloat16, DType::float16, DType::float64}) {
    if (dtype == dtype_name(candidate)) return to_scalar_type(candidate);
  }
  throw Error(ExitCode::bad_input, format("%s: \"%s\" is not a floating-point dtype", where.c_str(), printable(dtype).c_str()));
}

const Value& required(const Dict& object, const char* key, const std::string& name) {
  const Value* value = object.find(key);
  if (value == nullptr) throw Error(ExitCode::bad_input, format("%s: the artifact has no \"%s\"", name.c_str(), key));
  return *value;
}

}  // namespace

Dict quantize_int8(const StateDict& state, const std::vector<std::string>& keep_float_patterns, QuantStats* stats) {
  Dict quantized, scales, dtypes, passthrough, qmeta, passthrough_dtypes;
  // Python writes a string object once and refers back to it, so which strings are one object decides the bytes:
  // names and the words of qmeta are, dtype names are made anew each time.
  const Text scheme = text("scheme"), per_row = text("per_row"), axis = text("axis");
  for (const auto& [tensor_name, tensor] : state) {
    const Text name = text(tensor_name);
    const auto value = tensor.detach().to(at::kCPU).contiguous();
    stats->baseline_tensor_bytes += static_cast<int64_t>(value.nbytes());
    const auto dtype = value.scalar_type();
    const auto keep = [&](const at::Tensor& kept) {
      stats->int8_payload_bytes += static_cast<int64_t>(kept.nbytes());
      passthrough.set(name, to_raw(kept));
    };
    if (!value.is_floating_point()) {
      keep(value);
    } else if (value.numel() <= keep_float_max_numel) {
      const bool as_float = std::any_of(keep_float_patterns.begin(), keep_float_patterns.end(),
                                        [&key = tensor_name](const std::string& p) { return key.find(p) != std::string::npos; });
      if (as_float) {
        keep(value.to(at::kFloat));
      } else if (dtype == at::kFloat || dtype == at::kBFloat16) {
        passthrough_dtypes.set(name, text(dtype_name(to_dtype(dtype))));
        keep(value.to(at::kHalf));
      } else {
        keep(value);
      }
    } else {
      const auto values = value.to(at::kFloat);
      const Codes codes = values.dim() == 2 ? quantize_rows(values) : quantize_whole(values);
      if (codes.scale.dim() > 0) {
        Dict meta;
        meta.set(scheme, per_row);
        meta.set(axis, int64_t{0});
        qmeta.set(name, std::move(meta));
      }
      quantized.set(name, to_raw(codes.q));
      scales.set(name, to_raw(codes.scale));
      dtypes.set(name, text(dtype_name(to_dtype(dtype))));
      stats->int8_payload_bytes += static_cast<int64_t>(codes.q.nbytes() + codes.scale.nbytes());
    }
  }
  Dict object;
  object.set(text("__quant_format__"), text(format_name));
  object.set(text("quantized"), std::move(quantized));
  object.set(text("scales"), std::move(scales));
  object.set(text("dtypes"), std::move(dtypes));
  object.set(text("passthrough"), std::move(passthrough));
  if (qmeta.size() > 0) object.set(text("qmeta"), std::move(qmeta));
  if (passthrough_dtypes.size() > 0) object.set(text("passthrough_orig_dtypes"), std::move(passthrough_dtypes));
  return object;
}

StateDict dequantize_int8(const Dict& object, const std::string& name) {
  const std::string& found = required(object, "__quant_format__", name).as_text(name + ": __quant_format__");
  if (found != format_name) {
    throw Error(ExitCode::bad_input, format("%s: quantisation format \"%s\" is not known; %s is", name.c_str(),
                                            printable(found).c_str(), format_name));
  }
  const Dict& scales = required(object, "scales", name).as_dict(name + ": scales");
  const Dict& dtypes = required(object, "dtypes", name).as_dict(name + ": dtypes");
  StateDict state;
  for (const auto& [key, value] : required(object, "quantized", name).as_dict(name + ": quantized").entries()) {
    const std::string where = name + ": " + printable(*key);
    const auto q = to_tensor(value.as_tensor(where));
    const Value* scale_value = scales.find(*key);
    const Value* dtype_value = dtypes.find(*key);
    if (scale_value == nullptr || dtype_value == nullptr) throw Error(ExitCode::bad_input, where + " has no scale or no dtype");
    const auto dtype = dtype_from_name(dtype_value->as_text(where), where);
    auto scale = to_tensor(scale_value->as_tensor(where)).to(at::kFloat);
    if (scale.dim() > 0) {
      if (scale.dim() != 1 || q.dim() < 1 || scale.size(0) != q.size(0)) {
        throw Error(ExitCode::bad_input, where + ": the scales do not fit the rows");
      }
      std::vector<int64_t> column(static_cast<size_t>(q.dim()), 1);
      column[0] = q.size(0);
      scale = scale.view(column);
    }
    state.emplace_back(*key, (q.to(at::kFloat) * scale).to(dtype).contiguous());
  }
  const Value* noted = object.find("passthrough_orig_dtypes");
  const Dict* original_dtypes = noted == nullptr ? nullptr : &noted->as_dict(name + ": passthrough_orig_dtypes");
  for (const auto& [key, value] : required(object, "passthrough", name).as_dict(name + ": passthrough").entries()) {
    const std::string where = name + ": " + printable(*key);
    auto tensor = to_tensor(value.as_tensor(where));
    const Value* original = original_dtypes == nullptr ? nullptr : original_dtypes->find(*key);
    if (original != nullptr) tensor = tensor.to(dtype_from_name(original->as_text(where), where));
    state.emplace_back(*key, tensor);
  }
  return state;
}

void set_artifact_config(Dict* object, const std::map<std::string, std::string>& config) {
  Dict entries;
  for (const auto& [key, value] : config) entries.set(text(key), text(value));
  object->set(text("pgolf_config"), std::move(entries));
}

std::map<std::string, std::string> artifact_config(const Dict& object, const std::string& name) {
  std::map<std::string, std::string> config;
  if (const Value* stored = object.find("pgolf_config"); stored != nullptr) {
    const std::string where = name + ": pgolf_config";
    for (const auto& [key, value] : stored->as_dict(where).entries()) config[*key] = value.as_text(where);
  }
  return config;
}

}  // namespace pgolf
