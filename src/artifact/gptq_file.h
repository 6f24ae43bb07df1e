// The dictionary of the record programs' artifacts, for code_format.cpp.
#pragma once

#include "pgolf/artifact/code_format.h"

namespace pgolf {

Dict write_gptq_file(const CodedTensors& tensors, bool types);
CodedTensors read_gptq_file(const Dict& weights, const Dict& methods, const std::string& name);

/// What an entry of "m" says about its tensor.
struct GptqMethod {
  bool quantized = false;
  Quantizer quantizer = Quantizer::gptq;
  int bits = 8;
};
/// "passthrough", "passthrough (float16)", "passthrough_ctrl", "passthrough_fp16", "gptq (intN)", "per_row (int8)" or
/// {"type": "intN"}, N from 2 to 8; nothing for any other.
std::optional<GptqMethod> parse_gptq_method(const Value& method);

/// The same as text, for lists: "gptq (int6)", "int6".
std::string describe_gptq_method(const Value& method);

/// The dtype of an unquantized tensor after loading: float32 if it is floating point.
DType loaded_dtype(const RawTensor& kept);

}  // namespace pgolf
