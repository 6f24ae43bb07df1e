// Code formats: the layout of quantized tensors (codes and scales) in the dictionary of an artifact.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/artifact/model_format.h"
#include "pgolf/artifact/value.h"

namespace pgolf {

struct CodedTensor {
  std::string name;
  RawTensor data;                         ///< codes, or values if there is no scale
  std::optional<RawTensor> scale;         ///< factor of the codes: one per row, or a single one
  DType dtype = DType::float32;           ///< dtype after loading
  Quantizer quantizer = Quantizer::int8;  ///< that made the codes
  int bits = 8;                           ///< of a code
};
using CodedTensors = std::vector<CodedTensor>;

/// Object for object,
///  - int8_clean_per_row_v1 is what upstream's quantize_state_dict_int8 returns;
///  - gptq is {"w": {...}, "m": {...}}, where w has NAME, or NAME.q and NAME.scale, and m has for each NAME, in the same order,
///    "passthrough (float16)", "gptq (int6)" with the number of bits, or, for codes by rows, "per_row (int8)";
///  - gptq_types has "passthrough" and {"type": "int6"} instead.
Dict write_codes(CodeFormat format, const CodedTensors& tensors);

/// The format of a file's top level; none if it is not quantized.
CodeFormat code_format_in(const Value& content);

/// int8_clean_per_row_v1: the tensors with codes, then the others; else in the file's order, which stores no dtypes: all that is
/// floating point becomes float32. name is the file, for messages. Error(bad_input) if the format is unknown or its parts are
/// inconsistent, also if codes exceed their bits.
CodedTensors read_codes(const Dict& object, const std::string& name);

/// Adds the model's configuration to an artifact, as an extra entry that upstream's dequantizer ignores, and reads it back
/// (empty if there is none, as in upstream's artifacts).
void set_artifact_config(Dict* object, const std::map<std::string, std::string>& config);
std::map<std::string, std::string> artifact_config(const Dict& object, const std::string& name);

}  // namespace pgolf
