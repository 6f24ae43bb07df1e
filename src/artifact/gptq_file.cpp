#include "gptq_file.h"

#include <algorithm>
#include <map>
#include <unordered_set>

#include "pgolf/artifact/layout.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

constexpr int fewest_bits = 2, most_bits = 8;

std::string int_type(int bits) {
  return "int" + std::to_string(bits);
}

std::optional<int> bits_of(std::string_view type) {
  for (int bits = fewest_bits; bits <= most_bits; ++bits) {
    if (type == int_type(bits)) return bits;
  }
  return std::nullopt;
}

/// What is in parentheses after the word: "int6" for "gptq (int6)".
std::optional<std::string_view> argument_of(std::string_view word, std::string_view text) {
  if (!text.starts_with(word) || !text.ends_with(')')) return std::nullopt;
  text.remove_prefix(word.size());
  if (!text.starts_with(" (")) return std::nullopt;
  return text.substr(2, text.size() - 3);
}

bool within_bits(const RawTensor& codes, int bits) {
  const int limit = 1 << (bits - 1);
  return std::all_of(codes.bytes->begin(), codes.bytes->end(), [limit](std::byte code) {
    const int value = static_cast<int8_t>(code);
    return value >= -limit && value < limit;
  });
}

bool is_floating_point(DType dtype) {
  return dtype == DType::float16 || dtype == DType::bfloat16 || dtype == DType::float32 || dtype == DType::float64;
}

/// The entries of "w", each to be taken once.
class Weights {
 public:
  Weights(const Dict& weights, const std::string& name) : weights_(weights), name_(name) {}

  const RawTensor& take(const std::string& key) {
    const Value* value = weights_.find(key);
    if (value == nullptr) fail(key, "is missing in \"w\"");
    if (!taken_.insert(key).second) fail(key, "belongs to two tensors");
    return value->as_tensor(name_ + ": " + printable(key));
  }

  void require_all_taken() const {
    for (const auto& entry : weights_.entries()) {
      if (taken_.count(*entry.key) == 0) fail(*entry.key, "is in \"w\", but nothing in \"m\" says what it is");
    }
  }

 private:
  [[noreturn]] void fail(const std::string& key, const char* what) const {
    throw Error(ExitCode::bad_input, name_ + ": " + printable(key) + " " + what);
  }

  const Dict& weights_;
  const std::string& name_;
  std::unordered_set<std::string> taken_;
};

}  // namespace

std::optional<GptqMethod> parse_gptq_method(const Value& method) {
  if (const Dict* dict = method.get_if<Dict>()) {
    const Value* type = dict->find(layout::gptq_type);
    const Text* text = type == nullptr || dict->size() != 1 ? nullptr : type->get_if<Text>();
    const auto bits = text == nullptr ? std::nullopt : bits_of(**text);
    if (!bits) return std::nullopt;
    return GptqMethod{true, *bits == 8 ? Quantizer::int8 : Quantizer::gptq, *bits};
  }
  const Text* text = method.get_if<Text>();
  if (text == nullptr) return std::nullopt;
  for (const char* kept : {"passthrough", "passthrough (float16)", "passthrough_ctrl", "passthrough_fp16"}) {
    if (**text == kept) return GptqMethod{};
  }
  if (**text == "per_row (int8)") return GptqMethod{true, Quantizer::int8, 8};
  const auto argument = argument_of("gptq", **text);
  const auto bits = argument ? bits_of(*argument) : std::nullopt;
  if (!bits) return std::nullopt;
  return GptqMethod{true, Quantizer::gptq, *bits};
}

std::string describe_gptq_method(const Value& method) {
  const Dict* dict = method.get_if<Dict>();
  const Value* type = dict == nullptr ? nullptr : dict->find(layout::gptq_type);
  const Text* text = (type == nullptr ? method : *type).get_if<Text>();
  return text == nullptr ? method.type_name() : **text;
}

DType loaded_dtype(const RawTensor& kept) {
  return is_floating_point(kept.dtype) ? DType::float32 : kept.dtype;
}

Dict write_gptq_file(const CodedTensors& tensors, bool types) {
  // Python writes each string object once and refers back to it: a literal is one object, a formatted text a new one each time.
  const Text kept = text(types ? "passthrough" : "passthrough (float16)"), type_key = text(layout::gptq_type);
  std::map<int, Text> type_names;
  const auto method_of = [&](const CodedTensor& tensor) -> Value {
    if (!tensor.scale) return kept;
    if (!types)
      return text(tensor.quantizer == Quantizer::gptq ? "gptq (" + int_type(tensor.bits) + ")" : std::string("per_row (int8)"));
    Text& type = type_names[tensor.bits];
    if (type == nullptr) type = text(int_type(tensor.bits));
    Dict method;
    method.set(type_key, type);
    return method;
  };
  Dict weights, methods;
  for (const CodedTensor& tensor : tensors) {
    const Text name = text(tensor.name);
    if (tensor.scale) {
      weights.set(text(tensor.name + layout::gptq_codes_suffix), tensor.data);
      weights.set(text(tensor.name + layout::gptq_scale_suffix), *tensor.scale);
    } else {
      weights.set(name, tensor.data);
    }
    methods.set(name, method_of(tensor));
  }
  Dict object;
  object.set(text(layout::gptq_weights), std::move(weights));
  object.set(text(layout::gptq_methods), std::move(methods));
  return object;
}

CodedTensors read_gptq_file(const Dict& weights, const Dict& methods, const std::string& name) {
  Weights unread(weights, name);
  CodedTensors tensors;
  for (const auto& [key, value] : methods.entries()) {
    const auto fail = [&where = *key, &name](const std::string& what) {
      throw Error(ExitCode::bad_input, name + ": " + printable(where) + ": " + what);
    };
    const auto method = parse_gptq_method(value);
    if (!method) fail("unknown method \"" + printable(describe_gptq_method(value)) + "\"");
    if (!method->quantized) {
      const RawTensor& kept = unread.take(*key);
      tensors.push_back({*key, kept, {}, loaded_dtype(kept)});
      continue;
    }
    const RawTensor& codes = unread.take(*key + layout::gptq_codes_suffix);
    const RawTensor& scale = unread.take(*key + layout::gptq_scale_suffix);
    if (codes.dtype != DType::int8) fail(format("the codes are %s, not int8", dtype_name(codes.dtype)));
    if (!is_floating_point(scale.dtype)) fail(format("the scales are %s", dtype_name(scale.dtype)));
    if (!scale.shape.empty() && (scale.shape.size() != 1 || codes.shape.empty() || scale.shape[0] != codes.shape[0]))
      fail("the number of scales differs from the number of rows");
    if (!within_bits(codes, method->bits)) fail("codes exceed " + int_type(method->bits));
    tensors.push_back({*key, codes, scale, DType::float32, method->quantizer, method->bits});
  }
  unread.require_all_taken();
  return tensors;
}

}  // namespace pgolf
