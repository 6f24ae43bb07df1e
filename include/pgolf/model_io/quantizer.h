// Quantizers turn a model's weights into codes and scales. To add one: a value in artifact/model_format.h, a function here, and
// its call in train/pack.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pgolf/artifact/code_format.h"
#include "pgolf/config/run_config.h"
#include "pgolf/model/state_dict.h"

namespace pgolf {

/// Tensors of at most this many elements are not quantized.
constexpr int64_t keep_float_max_numel = 65'536;

struct QuantStats {
  int64_t baseline_tensor_bytes = 0;  ///< of the original tensors
  int64_t payload_bytes = 0;          ///< of the tensors as stored, before compression
};

/// The tensors of a state dict, in its order.
struct QuantizedModel {
  CodedTensors tensors;
  QuantStats stats;
};

/// Tensors
///  - not floating point: as is;
///  - at most keep_float_max_numel elements: float32 if the name contains one of keep_float_patterns, otherwise float32 and
///    bfloat16 become float16;
///  - larger: int8_codes().
QuantizedModel quantize_int8(const StateDict& state, const std::vector<std::string>& keep_float_patterns);

/// X^T X of the inputs X, [tokens, C], of one or several matrices.
struct Hessian {
  std::vector<std::string> matrices;
  at::Tensor products;  ///< [C, C] float32
};
using Hessians = std::vector<Hessian>;

/// By the names of the matrices; those with the same inputs share one (gptq.h).
using PreparedHessians = std::map<std::string, std::shared_ptr<const struct PreparedHessian>>;

/// Work of this and the next function is shared out over at::get_num_threads() threads; the bits do not depend on how many.
PreparedHessians prepare_hessians(const Hessians& hessians);

/// Tensors
///  - not floating point: as is;
///  - at most keep_float_max_numel elements: float16;
///  - with a Hessian: gptq_codes(), the token embedding with its own bits and clip. With GptqClip::search the embedding counts as
///    one without a Hessian;
///  - other: int8_codes().
QuantizedModel quantize_gptq(const StateDict& state, const PreparedHessians& hessians, const GptqConfig& config);

/// The inverse of any quantizer whose codes are multiplied by their scales.
StateDict dequantize(const CodedTensors& tensors);

struct Codes {
  at::Tensor codes;  ///< shape of the weights
  at::Tensor scale;  ///< [rows], or a scalar
};

/// weights: float32.
///  - 2-D: per row, clip = the 0.9999984 quantile of |row|, scale = max(clip / 127, 1/127), codes round(clamped / scale) in
///    -127..127; the scale is stored as float16 but codes use it unrounded;
///  - other: one float32 scale, clip / 127 (1 if the clip is 0).
Codes int8_codes(const at::Tensor& weights);

}  // namespace pgolf
