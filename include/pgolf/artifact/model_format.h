// Formats of model files and artifacts.
#pragma once

#include <string>

#include "pgolf/artifact/codec.h"

namespace pgolf {

enum class Container { torch, safetensors, checkpoint };

/// The layout of codes and scales in a torch.save archive (code_format.h). none: unquantized weights. gptq, gptq_types: those of
/// the record programs; they differ in how they say what a tensor is.
enum class CodeFormat { none, int8_clean_per_row_v1, gptq, gptq_types, unknown };

/// Turns weights into codes and scales (model_io/quantizer.h).
enum class Quantizer { int8, gptq };

/// The format of a file: codes are in torch.save archives. A codec may compress any container.
struct ModelFormat {
  Container container = Container::torch;
  CodeFormat codes = CodeFormat::none;
  Codec codec = Codec::none;

  bool operator==(const ModelFormat&) const = default;
};

/// Three independent choices, as long as the code format supports the quantizer's output.
struct ArtifactFormat {
  Quantizer quantizer = Quantizer::int8;
  CodeFormat codes = CodeFormat::int8_clean_per_row_v1;
  Codec codec = Codec::zlib;

  ModelFormat file() const { return {Container::torch, codes, codec}; }
};

/// "torch", "int8+zlib", "gptq+brotli", "safetensors", "training checkpoint"; "int8", "torch+zlib" and "safetensors+zlib" are
/// rare.
std::string format_text(const ModelFormat& format);

/// The name that an artifact stores, "int8_clean_per_row_v1", and back: unknown if not supported. "" for gptq and gptq_types,
/// which store none.
const char* code_format_name(CodeFormat codes);
CodeFormat code_format_of(const std::string& name);

}  // namespace pgolf
