// What a model file holds, tensor by tensor and as it is stored, whether or not it makes a model known here.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pgolf/artifact/model_container.h"

namespace pgolf {

struct StoredTensor {
  std::string name;
  RawTensor data;                  ///< of a quantised tensor its codes
  std::optional<RawTensor> scale;  ///< of a quantised tensor: one per row, or a single one
  std::string dtype;               ///< what a reader makes of it, "bfloat16"

  int64_t bytes() const;
};

struct FileContents {
  std::string quant_format;                                ///< "int8_clean_per_row_v1"; empty if nothing is quantised
  std::vector<StoredTensor> tensors;                       ///< in the file's order
  std::map<std::string, std::string> config;               ///< layout::config, or the model of a training checkpoint
  std::vector<std::pair<std::string, std::string>> notes;  ///< what else is there: numbers, texts, other metadata
};

/// Names of nested entries are joined by points. Error(bad_input) if the configuration is no table of texts.
FileContents list_contents(const ModelContainer& container, const std::string& name);

/// Shannon entropy of the codes' distribution, bits per code: what an ideal coder that knows nothing of their order needs.
/// 0 for none. The codes are int8.
double code_entropy(const RawTensor& codes);

}  // namespace pgolf
