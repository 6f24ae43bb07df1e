// What a model file is, and what an artifact is made with.
#pragma once

#include <string>

#include "pgolf/artifact/codec.h"

namespace pgolf {

enum class Container { torch, safetensors, checkpoint };

/// How a torch.save archive spells codes and scales (code_format.h). none: it holds weights as they are.
enum class CodeFormat { none, int8_clean_per_row_v1, unknown };

/// What turns weights into codes and scales (model_io/quantizer.h).
enum class Quantizer { int8 };

/// Of a file, as far as it shows: codes come in torch.save archives, and codecs around those.
struct ModelFormat {
  Container container = Container::torch;
  CodeFormat codes = CodeFormat::none;
  Codec codec = Codec::none;

  bool operator==(const ModelFormat&) const = default;
};

/// Three choices that do not depend on one another, as long as the code format can spell what the quantizer makes.
struct ArtifactFormat {
  Quantizer quantizer = Quantizer::int8;
  CodeFormat codes = CodeFormat::int8_clean_per_row_v1;
  Codec codec = Codec::zlib;

  ModelFormat file() const { return {Container::torch, codes, codec}; }
};

/// "torch", "int8+zlib", "safetensors", "training checkpoint"; "int8" and "torch+zlib" are rare.
std::string format_text(const ModelFormat& format);

/// The name that an artifact stores, "int8_clean_per_row_v1", and back: unknown for one that is not known here.
const char* code_format_name(CodeFormat codes);
CodeFormat code_format_of(const std::string& name);

}  // namespace pgolf
