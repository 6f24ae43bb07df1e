#include "pgolf/artifact/code_format.h"

#include <algorithm>
#include <stdexcept>

#include "gptq_file.h"
#include "pgolf/artifact/layout.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

const Value& required(const Dict& object, const char* key, const std::string& name) {
  const Value* value = object.find(key);
  if (value == nullptr) throw Error(ExitCode::bad_input, format("%s: the artifact has no \"%s\"", name.c_str(), key));
  return *value;
}

const Dict& required_dict(const Dict& object, const char* key, const std::string& name) {
  return required(object, key, name).as_dict(name + ": " + key);
}

const Dict* dict_in(const Dict& object, const char* key) {
  const Value* value = object.find(key);
  return value == nullptr ? nullptr : value->get_if<Dict>();
}

DType dtype_from_name(const std::string& dtype, const std::string& where) {
  for (const DType candidate : {DType::float32, DType::bfloat16, DType::float16, DType::float64}) {
    if (dtype == dtype_name(candidate)) return candidate;
  }
  throw Error(ExitCode::bad_input, format("%s: \"%s\" is not a floating-point dtype", where.c_str(), printable(dtype).c_str()));
}

Dict write_per_row(const CodedTensors& tensors) {
  Dict quantized, scales, dtypes, passthrough, schemes, passthrough_dtypes;
  // Python writes each string object once and refers back to it, so object identity affects the bytes: names and the words of a
  // scheme are shared objects, dtype names are new objects each time.
  const Text scheme = text("scheme"), per_row = text("per_row"), axis = text("axis");
  for (const CodedTensor& tensor : tensors) {
    const Text name = text(tensor.name);
    if (!tensor.scale) {
      if (tensor.dtype != tensor.data.dtype) passthrough_dtypes.set(name, text(dtype_name(tensor.dtype)));
      passthrough.set(name, tensor.data);
      continue;
    }
    if (!tensor.scale->shape.empty()) {
      Dict meta;
      meta.set(scheme, per_row);
      meta.set(axis, int64_t{0});
      schemes.set(name, std::move(meta));
    }
    quantized.set(name, tensor.data);
    scales.set(name, *tensor.scale);
    dtypes.set(name, text(dtype_name(tensor.dtype)));
  }
  Dict object;
  object.set(text(layout::code_format), text(code_format_name(CodeFormat::int8_clean_per_row_v1)));
  object.set(text(layout::quantized), std::move(quantized));
  object.set(text(layout::scales), std::move(scales));
  object.set(text(layout::dtypes), std::move(dtypes));
  object.set(text(layout::passthrough), std::move(passthrough));
  if (schemes.size() > 0) object.set(text(layout::schemes), std::move(schemes));
  if (passthrough_dtypes.size() > 0) object.set(text(layout::passthrough_dtypes), std::move(passthrough_dtypes));
  return object;
}

CodedTensors read_per_row(const Dict& object, const std::string& name) {
  const Dict& scales = required_dict(object, layout::scales, name);
  const Dict& dtypes = required_dict(object, layout::dtypes, name);
  CodedTensors tensors;
  for (const auto& [key, value] : required_dict(object, layout::quantized, name).entries()) {
    const std::string where = name + ": " + printable(*key);
    const RawTensor& codes = value.as_tensor(where);
    const Value* scale_value = scales.find(*key);
    const Value* dtype_value = dtypes.find(*key);
    if (scale_value == nullptr || dtype_value == nullptr) throw Error(ExitCode::bad_input, where + " has no scale or no dtype");
    const DType dtype = dtype_from_name(dtype_value->as_text(where), where);
    const RawTensor& scale = scale_value->as_tensor(where);
    if (!scale.shape.empty() && (scale.shape.size() != 1 || codes.shape.empty() || scale.shape[0] != codes.shape[0]))
      throw Error(ExitCode::bad_input, where + ": the number of scales differs from the number of rows");
    tensors.push_back({*key, codes, scale, dtype});
  }
  const Value* noted = object.find(layout::passthrough_dtypes);
  const Dict* dtypes_before = noted == nullptr ? nullptr : &noted->as_dict(name + ": " + layout::passthrough_dtypes);
  for (const auto& [key, value] : required_dict(object, layout::passthrough, name).entries()) {
    const std::string where = name + ": " + printable(*key);
    const RawTensor& kept = value.as_tensor(where);
    const Value* before = dtypes_before == nullptr ? nullptr : dtypes_before->find(*key);
    tensors.push_back({*key, kept, {}, before == nullptr ? kept.dtype : dtype_from_name(before->as_text(where), where)});
  }
  return tensors;
}

}  // namespace

Dict write_codes(CodeFormat format, const CodedTensors& tensors) {
  if (format == CodeFormat::int8_clean_per_row_v1) return write_per_row(tensors);
  if (format == CodeFormat::gptq || format == CodeFormat::gptq_types)
    return write_gptq_file(tensors, format == CodeFormat::gptq_types);
  throw std::invalid_argument("not a code format");
}

CodeFormat code_format_in(const Value& content) {
  const Dict* object = content.get_if<Dict>();
  if (object == nullptr) return CodeFormat::none;
  if (const Value* format = object->find(layout::code_format)) {
    const Text* stored = format->get_if<Text>();
    return stored == nullptr ? CodeFormat::unknown : code_format_of(**stored);
  }
  const Dict *weights = dict_in(*object, layout::gptq_weights), *methods = dict_in(*object, layout::gptq_methods);
  if (weights == nullptr || methods == nullptr) return CodeFormat::none;
  const bool types = std::any_of(methods->entries().begin(), methods->entries().end(),
                                 [](const DictEntry& method) { return method.value.get_if<Dict>() != nullptr; });
  return types ? CodeFormat::gptq_types : CodeFormat::gptq;
}

CodedTensors read_codes(const Dict& object, const std::string& name) {
  switch (code_format_in(object)) {
    case CodeFormat::int8_clean_per_row_v1:
      return read_per_row(object, name);
    case CodeFormat::gptq:
    case CodeFormat::gptq_types:
      return read_gptq_file(*dict_in(object, layout::gptq_weights), *dict_in(object, layout::gptq_methods), name);
    default:
      break;
  }
  const std::string& found = required(object, layout::code_format, name).as_text(name + ": " + layout::code_format);
  throw Error(ExitCode::bad_input, format("%s: unknown quantization format \"%s\"; supported: %s", name.c_str(),
                                          printable(found).c_str(), code_format_name(CodeFormat::int8_clean_per_row_v1)));
}

void set_artifact_config(Dict* object, const std::map<std::string, std::string>& config) {
  Dict entries;
  for (const auto& [key, value] : config) entries.set(text(key), text(value));
  object->set(text(layout::config), std::move(entries));
}

std::map<std::string, std::string> artifact_config(const Dict& object, const std::string& name) {
  std::map<std::string, std::string> config;
  if (const Value* table = object.find(layout::config)) {
    const std::string where = name + ": " + layout::config;
    for (const auto& [key, value] : table->as_dict(where).entries()) config[*key] = value.as_text(where);
  }
  return config;
}

}  // namespace pgolf
