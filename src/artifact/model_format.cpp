#include "pgolf/artifact/model_format.h"

namespace pgolf {
namespace {

constexpr const char* containers[] = {"torch", "safetensors", "training checkpoint"};  // in enum order

struct CodeFormatInfo {
  CodeFormat codes;
  const char *stored, *text;
};
constexpr CodeFormatInfo code_formats[] = {
    {CodeFormat::int8_clean_per_row_v1, "int8_clean_per_row_v1", "int8"},
    {CodeFormat::gptq, "", "gptq"},
    {CodeFormat::gptq_types, "", "gptq"},
    {CodeFormat::unknown, "", "int8"},  // derived from the first one, since it has the same key
};

}  // namespace

std::string format_text(const ModelFormat& format) {
  std::string out = containers[static_cast<size_t>(format.container)];
  for (const auto& info : code_formats) {
    if (info.codes == format.codes) out = info.text;
  }
  return format.codec == Codec::none ? out : out + "+" + codec_name(format.codec);
}

const char* code_format_name(CodeFormat codes) {
  for (const auto& info : code_formats) {
    if (info.codes == codes) return info.stored;
  }
  return "";
}

CodeFormat code_format_of(const std::string& name) {
  for (const auto& info : code_formats) {
    if (!name.empty() && name == info.stored) return info.codes;
  }
  return CodeFormat::unknown;
}

}  // namespace pgolf
