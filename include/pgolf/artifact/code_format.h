// Code formats: how the dictionary of an artifact spells tensors that a quantizer has turned into codes and scales.
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
  RawTensor data;                  ///< codes, or values if there is no scale
  std::optional<RawTensor> scale;  ///< what codes are multiplied with: one per row, or a single one
  DType dtype = DType::float32;    ///< what a reader makes of it
};
using CodedTensors = std::vector<CodedTensor>;

/// int8_clean_per_row_v1 is what the Python program's quantize_state_dict_int8 returns, object for object.
Dict write_codes(CodeFormat format, const CodedTensors& tensors);

/// The tensors with codes, then the others. name is the file for messages. Error(bad_input) if the dictionary is of no known
/// format or its parts do not fit together.
CodedTensors read_codes(const Dict& object, const std::string& name);

/// Adds the model's configuration to an artifact, as one more entry that the Python program's dequantizer does not look at; and
/// reads it back (empty if there is none: an artifact of the Python program).
void set_artifact_config(Dict* object, const std::map<std::string, std::string>& config);
std::map<std::string, std::string> artifact_config(const Dict& object, const std::string& name);

}  // namespace pgolf
