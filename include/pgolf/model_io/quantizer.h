// Quantizers turn weights into codes and scales. To add one: a value in artifact/model_format.h, a function here, and a line in
// quantizer.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pgolf/artifact/code_format.h"
#include "pgolf/model/state_dict.h"

namespace pgolf {

/// Tensors of at most this many elements are not quantized.
constexpr int64_t keep_float_max_numel = 65'536;

struct QuantStats {
  int64_t baseline_tensor_bytes = 0;  ///< of the original tensors
  int64_t payload_bytes = 0;          ///< of the tensors as stored, before compression
};

/// The tensors of a state dict in its order:
///  - not floating point: as is;
///  - at most keep_float_max_numel elements: float32 if the name contains one of keep_float_patterns, otherwise float32 and
///    bfloat16 become float16;
///  - larger: quantized.
CodedTensors quantize(Quantizer quantizer, const StateDict& state, const std::vector<std::string>& keep_float_patterns,
                      QuantStats* stats);

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
Codes quantize_int8(const at::Tensor& weights);

}  // namespace pgolf
