// The artifact's tensor format "int8_clean_per_row_v1" (quantize_state_dict_int8 of the Python program).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "pgolf/artifact/value.h"
#include "pgolf/model/state_dict.h"

namespace pgolf {

/// Tensors of at most this many elements are not quantised.
constexpr int64_t keep_float_max_numel = 65'536;

struct QuantStats {
  int64_t baseline_tensor_bytes = 0;  ///< of the tensors as they were
  int64_t int8_payload_bytes = 0;     ///< of the tensors as stored, before compression
};

/// Quantises a state dict into the dictionary that the artifact holds:
///  - not floating point: stored as is;
///  - at most keep_float_max_numel elements: stored as float32 if the name contains one of keep_float_patterns, otherwise
///    float32 and bfloat16 become float16 (their dtype is noted);
///  - larger 2-D: per row, clip = the 0.9999984 quantile of |row|, scale = max(clip / 127, 1/127), codes
///    round(clamped / scale) in -127..127; the scale is stored as float16 but codes use it unrounded;
///  - other larger: one float32 scale, clip / 127 (1 if the clip is 0).
Dict quantize_int8(const StateDict& state, const std::vector<std::string>& keep_float_patterns, QuantStats* stats);

/// The inverse; every tensor gets its original dtype. name is the file for messages. Error(bad_input) if the
/// dictionary is not of this format or its parts do not fit together.
StateDict dequantize_int8(const Dict& object, const std::string& name);

/// Adds the model's configuration to an artifact, as one more entry "pgolf_config" that the Python program's
/// dequantiser does not look at; and reads it back (empty if there is none: an artifact of the Python program).
void set_artifact_config(Dict* object, const std::map<std::string, std::string>& config);
std::map<std::string, std::string> artifact_config(const Dict& object, const std::string& name);

}  // namespace pgolf
