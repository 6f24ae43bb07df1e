// Lists the contents of a model file, tensor by tensor as stored, whether or not it is a supported model.
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
  RawTensor data;                  ///< the codes of a quantized tensor
  std::optional<RawTensor> scale;  ///< of a quantized tensor: one per row, or a single one
  std::string dtype;               ///< dtype after loading, "bfloat16"
  std::string method = {};         ///< "gptq (int6)": how it was quantized, where the file says so for each tensor

  int64_t bytes() const;
};

struct FileContents {
  std::string quant_format;                                ///< "int8_clean_per_row_v1"; empty if the file names none
  std::vector<StoredTensor> tensors;                       ///< in file order
  std::map<std::string, std::string> config;               ///< layout::config, or the model of a training checkpoint
  std::vector<std::pair<std::string, std::string>> notes;  ///< everything else: numbers, texts, other metadata
};

/// Names of nested entries are joined with dots. Error(bad_input) if the configuration is not a table of strings.
FileContents list_contents(const ModelContainer& container, const std::string& name);

/// Shannon entropy of the codes' distribution, in bits per code: the minimum for a coder that ignores their order.
/// 0 if there are none. The codes are int8.
double code_entropy(const RawTensor& codes);

}  // namespace pgolf
